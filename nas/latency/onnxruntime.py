"""ONNX Runtime on the CPU, in fp32 or in the static int8 that export writes."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.quantize import quantized
from nas.latency.runtime import Calls, Setting, cpu_clock

CALIBRATION_BATCHES = 2  # of random images: scales move no latency


class OnnxRuntime:
    name = "onnxruntime"
    lock = "cpu"
    precisions: tuple[str, ...] = ("fp32", "int8")
    threads = True
    limit_s = 120.0  # int8 of a large network beside busy workers takes most of a minute

    def missing(self) -> str | None:
        return None if find_spec("onnxruntime") else "needs the package onnxruntime: pip install onnxruntime"

    def version(self) -> str:
        return f"onnxruntime {version('onnxruntime')}"

    def prepare(self, network: Network, setting: Setting) -> Calls:
        import onnxruntime

        data = network.onnx(setting.resolution, setting.batch)
        if setting.precision == "int8":
            import onnx

            images = np.concatenate([image_batch(setting)] * CALIBRATION_BATCHES)
            data = quantized(onnx.load_from_string(data), images).SerializeToString()
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
