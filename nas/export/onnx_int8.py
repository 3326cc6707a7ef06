"""ONNX in int8 (QDQ, static): activations calibrated on images, weights by channel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nas.errors import Failure
from nas.export import onnx_model
from nas.export.formats import Artefact, Runner
from nas.export.variant import Variant

TOLERANCE = 1.0  # relative: int8 is compared by accuracy; this only catches a broken file


def missing() -> str | None:
    return onnx_model.missing()


class _Reader:
    """Calibration images one at a time, as onnxruntime's CalibrationDataReader."""

    def __init__(self, images: np.ndarray) -> None:
        self._rest: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._rest, None)
        return None if image is None else {"image": image[None]}


def write(variant: Variant, folder: Path) -> list[Artefact]:
    """Quantize the fused network.

    Raises:
        Failure: no calibration images were given.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    images = variant.options.calibration
    if images is None or not len(images):
        raise Failure("onnx-int8 needs calibration images: give a folder of typical ones with --calibration DIR")
    reader = type("Reader", (_Reader, CalibrationDataReader), {})(images)
    path = folder / f"{variant.name}_int8.onnx"
    with tempfile.TemporaryDirectory() as aside:
        plain, ready = Path(aside) / "plain.onnx", Path(aside) / "ready.onnx"
        onnx.save_model(onnx_model.to_onnx(variant, dynamic_batch=variant.options.dynamic_batch), plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(ready, path, reader, quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        # Attention's softmax and what follows it lose most and cost least.
                        op_types_to_quantize=["Conv", "Gemm"])
    model = onnx.load_model(path)
    onnx.helper.set_model_props(model, onnx_model.metadata(variant) | {"quantized": f"int8, {len(images)} images"})
    onnx.save_model(model, path)
    return [Artefact(path.name, TOLERANCE, f"fused, int8 calibrated on {len(images)} images; evaluate its accuracy")]


def load(folder: Path, artefact: Artefact) -> Runner:
    return onnx_model.load(folder, artefact)
