"""TensorRT on an NVIDIA GPU: the paper's GPU protocol is `--protocol paper --batch 8 --precision fp16`.

Not yet run with TensorRT installed; the contract test runs it where it is.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.onnxruntime import image_batch
from nas.latency.runtime import Setting


class TensorRt:
    name = "tensorrt"
    lock = "cuda"
    precisions: tuple[str, ...] = ("fp32", "fp16")
    threads = False
    limit_s = 300.0  # the builder times its kernels

    def missing(self) -> str | None:
        if not find_spec("tensorrt"):
            return "needs the package tensorrt and an NVIDIA GPU: pip install tensorrt"
        import torch

        return None if torch.cuda.is_available() else "needs an NVIDIA GPU and a build of torch with CUDA"

    def version(self) -> str:
        import torch

        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        return f"tensorrt {version('tensorrt')} {name}"

    def prepare(self, network: Network, setting: Setting) -> _Engine:
        import tensorrt
        import torch

        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        builder = tensorrt.Builder(logger)
        definition = builder.create_network(0)
        parser = tensorrt.OnnxParser(definition, logger)
        if not parser.parse(network.onnx(setting.resolution, setting.batch)):
            raise Failure(f"tensorrt cannot read {network.name}: {parser.get_error(0)}")
        config = builder.create_builder_config()
        if setting.precision == "fp16":
            config.set_flag(tensorrt.BuilderFlag.FP16)
        data = builder.build_serialized_network(definition, config)
        if data is None:
            raise Failure(f"tensorrt built no engine for {network.name}")
        engine = tensorrt.Runtime(logger).deserialize_cuda_engine(data)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        buffers = {name: torch.zeros(tuple(engine.get_tensor_shape(name)), device="cuda") for name in names}
        buffers["image"].copy_(torch.from_numpy(image_batch(setting)))
        return _Engine(engine, buffers)


class _Engine:
    """Inferences between two events on one stream: the GPU's own time."""

    clock = "wall"

    def __init__(self, engine: Any, buffers: dict[str, Any]) -> None:
        import torch

        self.engine, self.buffers = engine, buffers  # alive as long as the context that points into them
        self.context = engine.create_execution_context()
        for name, buffer in buffers.items():
            self.context.set_tensor_address(name, buffer.data_ptr())
        self.stream = torch.cuda.Stream()
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def block(self, repeats: int) -> float:
        self.begin.record(self.stream)
        for _ in range(repeats):
            if not self.context.execute_async_v3(self.stream.cuda_stream):
                raise Failure("tensorrt could not run the engine")
        self.end.record(self.stream)
        self.end.synchronize()
        return float(self.begin.elapsed_time(self.end)) / 1e3
