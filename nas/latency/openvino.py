"""OpenVINO on the CPU."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.onnxruntime import random_input
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

        if setting.precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU",
                                                                                      "OPTIMIZATION_CAPABILITIES"):
            raise Failure("openvino: this processor has no bf16 instructions; use --precision fp32")
        try:
            return self.load(self.convert(network, setting), setting)
        except RuntimeError as error:
            raise Failure(f"openvino cannot load {network.name}: {error}") from error

    def convert(self, network: Network, setting: Setting) -> bytes:
        """The file that `load` reads."""
        return network.onnx(setting.resolution, setting.batch)

    def load(self, data: bytes | str, setting: Setting) -> Calls:
        """A request around an ONNX file, or its path, with one input of known shape."""
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(data), "CPU", {
            "INFERENCE_NUM_THREADS": setting.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[setting.precision]})
        request = compiled.create_infer_request()
        # Shared memory: the copy of the image into OpenVINO is no part of the network.
        request.set_input_tensor(openvino.Tensor(random_input(compiled.input(0).shape), shared_memory=True))
        return Calls(request.infer, cpu_clock(setting))
