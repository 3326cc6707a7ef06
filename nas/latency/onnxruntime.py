"""ONNX Runtime on the CPU, in fp32 or with dynamically quantized int8 weights and activations."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.runtime import Calls, Setting, cpu_clock


class OnnxRuntime:
    name = "onnxruntime"
    lock = "cpu"
    precisions: tuple[str, ...] = ("fp32", "int8")
    threads = True
    limit_s = 60.0

    def missing(self) -> str | None:
        return None if find_spec("onnxruntime") else "needs the package onnxruntime: pip install onnxruntime"

    def version(self) -> str:
        return f"onnxruntime {version('onnxruntime')}"

    def prepare(self, network: Network, setting: Setting) -> Calls:
        import onnxruntime

        data = network.onnx(setting.resolution, setting.batch)
        if setting.precision == "int8":
            data = quantized(data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A thread that spins for work burns the time of the network beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Failure(f"onnxruntime cannot load {network.name}: {error}") from error
        image = image_batch(setting)
        return Calls(lambda: session.run(None, {"image": image}), cpu_clock(setting))


def image_batch(setting: Setting) -> np.ndarray:
    """Random images (B, 3, H, W)."""
    shape = (setting.batch, 3, setting.resolution, setting.resolution)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def quantized(data: bytes) -> bytes:
    """An ONNX file with int8 weights whose activations are quantized as they come (no calibration needed)."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it warns through the root logger that preprocessing is possible
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        # The CPU kernel of ConvInteger exists for unsigned weights only.
        quantize_dynamic(onnx.load_from_string(data), path, weight_type=QuantType.QUInt8)
        return path.read_bytes()
