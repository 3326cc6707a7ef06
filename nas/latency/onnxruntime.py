"""ONNX Runtime on the CPU, in fp32 or in the static int8 that export writes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.quantize import quantized
from nas.latency.runtime import Calls, Setting, cpu_clock
from nas.onnx_runtime import onnxruntime

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
        try:
            return self.load(self.convert(network, setting), setting)
        except RuntimeError as error:
            raise Failure(f"onnxruntime cannot load {network.name}: {error}") from error

    def convert(self, network: Network, setting: Setting) -> bytes:
        """The file that `load` reads."""
        data = network.onnx(setting.resolution, setting.batch)
        if setting.precision == "int8":
            import onnx

            images = np.concatenate([image_batch(setting)] * CALIBRATION_BATCHES)
            data = quantized(onnx.load_from_string(data), images).SerializeToString()
        return data

    def load(self, data: bytes | str, setting: Setting) -> Calls:
        """A session around an ONNX file, or its path, with one input of known shape."""
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A thread that spins for work burns the time of the network beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        given, = session.get_inputs()
        image = random_input(given.shape)
        return Calls(lambda: session.run(None, {given.name: image}), cpu_clock(setting))


def random_input(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(tuple(shape), np.float32)


def image_batch(setting: Setting) -> np.ndarray:
    """Random images (B, 3, H, W)."""
    return random_input((setting.batch, 3, setting.resolution, setting.resolution))
