"""Static int8 (QDQ) of an ONNX file: what `export` writes and what `--precision int8` measures, by one function."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.onnx_runtime import onnxruntime

if TYPE_CHECKING:
    import onnx


class _Reader:
    """Calibration images as many at a time as the network takes, as onnxruntime's CalibrationDataReader."""

    def __init__(self, images: np.ndarray, batch: int) -> None:
        self._rest: Iterator[np.ndarray] = iter(images[:len(images) // batch * batch].reshape(-1, batch,
                                                                                            *images.shape[1:]))

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self._rest, None)
        return None if images is None else {"image": images}


def reader(images: np.ndarray, batch: int = 1) -> Any:
    """Calibration images (N, 3, H, W) for quantize_static."""
    onnxruntime()  # before its parts, so that it leaves no telemetry
    from onnxruntime.quantization import CalibrationDataReader

    return type("Reader", (_Reader, CalibrationDataReader), {})(images, batch)


def quantized(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """The network with int8 weights by channel, and uint8 activations calibrated on `images` (N, 3, H, W).
    Which images they are moves accuracy, and no latency."""
    import logging

    import onnx

    onnxruntime()  # before its parts, so that it leaves no telemetry
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)  # it warns through the root logger of things that were done
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    with tempfile.TemporaryDirectory() as aside:
        plain, ready, done = (Path(aside) / f"{name}.onnx" for name in ("plain", "ready", "done"))
        onnx.save_model(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(ready, done, reader(images, batch), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        # Attention's softmax and what follows it lose most and cost least.
                        op_types_to_quantize=["Conv", "Gemm"])
        return onnx.load_model(done)
