"""ONNX in int8 (QDQ, static): activations calibrated on images, weights by channel."""

from __future__ import annotations

from pathlib import Path

from nas.errors import Failure
from nas.export import onnx_model
from nas.export.formats import Artefact, Runner
from nas.export.loss import decide, loss_of
from nas.export.parity import module_runner
from nas.export.variant import Variant
from nas.latency.quantize import quantized

TOLERANCE = 1.0  # relative: int8 is compared by accuracy; this only catches a broken file


def missing() -> str | None:
    return onnx_model.missing()


def write(variant: Variant, folder: Path) -> list[Artefact]:
    """Quantize the fused network.

    Raises:
        Failure: no calibration images were given, or it loses more than the options allow.
    """
    import onnx

    images = variant.options.calibration
    if images is None or not len(images):
        raise Failure("onnx-int8 needs calibration images: give a folder of typical ones with --calibration DIR")
    path = folder / f"{variant.name}_int8.onnx"
    model = quantized(onnx_model.to_onnx(variant, dynamic_batch=variant.options.dynamic_batch), images)
    onnx.helper.set_model_props(model, onnx_model.metadata(variant) | {"quantized": f"int8, {len(images)} images"})
    onnx.save_model(model, path)
    note = f"fused, int8 calibrated on {len(images)} images"
    judged = variant.options.judged
    if judged is None:
        return [Artefact(path.name, TOLERANCE, f"{note}; evaluate its accuracy")]
    loss = loss_of(module_runner(variant.fused), onnx_model.runner(path), judged)
    decide("onnx-int8", loss, variant.options.max_loss)
    return [Artefact(path.name, TOLERANCE, f"{note}; {loss}")]


def load(folder: Path, artefact: Artefact) -> Runner:
    return onnx_model.load(folder, artefact)
