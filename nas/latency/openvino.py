"""OpenVINO on the CPU."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.onnxruntime import image_batch
from nas.latency.runtime import Calls, Setting, cpu_clock


class OpenVino:
    name = "openvino"
    lock = "cpu"
    precisions: tuple[str, ...] = ("fp32", "bf16")
    threads = True
    limit_s = 60.0

    def missing(self) -> str | None:
        return None if find_spec("openvino") else "needs the package openvino: pip install openvino"

    def version(self) -> str:
        return f"openvino {version('openvino')}"

    def prepare(self, network: Network, setting: Setting) -> Calls:
        import openvino

        core = openvino.Core()
        if setting.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Failure("openvino: this processor has no bf16 instructions; use --precision fp32")
        try:
            model = core.read_model(network.onnx(setting.resolution, setting.batch))
            compiled = core.compile_model(model, "CPU", {
                "INFERENCE_NUM_THREADS": setting.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[setting.precision]})
        except Exception as error:
            raise Failure(f"openvino cannot load {network.name}: {error}") from error
        request = compiled.create_infer_request()
        # Shared memory: the copy of the image into OpenVINO is no part of the network.
        request.set_input_tensor(openvino.Tensor(image_batch(setting), shared_memory=True))
        return Calls(request.infer, cpu_clock(setting))
