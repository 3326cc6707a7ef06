"""Core ML: packages (mlprogram, float16) for iOS 16 and iOS 18 of the fused network.

Written on any system that coremltools runs on; run on macOS only.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import Failure, NotAvailable
from nas.export.formats import Artefact, Runner, lacks
from nas.export.variant import Variant, read_sheet
from nas.latency.mlprogram import TARGETS, convert, coremltools

if TYPE_CHECKING:
    from torch import nn

HALF = 2e-2  # relative: float16 carries three digits, and errors add up over the depth
COMPRESSED = 0.5  # relative: 8-bit weights or palettes change logits; accuracy is to be evaluated
PALETTE_BITS = 6


def missing() -> str | None:
    return lacks("coremltools", "pip install coremltools (not on Windows)")


def deployed(variant: Variant) -> nn.Module:
    """The fused network with what the options bake in: normalisation of a [0, 1] image, softmax for labels."""
    import torch
    from torch import nn

    class Normalise(nn.Module):
        # As a layer of its own: folded into a padded convolution it would be wrong at the image's edge.
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(variant.mean).view(1, 3, 1, 1))
            self.register_buffer("gain", 1 / torch.tensor(variant.std).view(1, 3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - self.mean) * self.gain  # type: ignore[operator]

    parts: list[nn.Module] = [Normalise()] if variant.options.image_input else []
    parts.append(variant.fused)
    if variant.class_names:
        parts.append(nn.Softmax(1))
    return nn.Sequential(*parts).eval()


def _converted(variant: Variant, target: str) -> Any:
    ct = coremltools()
    side = variant.resolution
    shape = (1, 3, side, side)
    changes: dict[str, Any] = {}
    if variant.options.image_input:
        changes["inputs"] = [ct.ImageType(name="image", shape=shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)]
    if variant.class_names:
        changes["outputs"] = None
        changes["classifier_config"] = ct.ClassifierConfig(list(variant.class_names),
                                                           predicted_feature_name="class_label")
    model = convert(deployed(variant), shape, target, **changes)
    model.short_description = f"{variant.name}: {variant.config.describe()}"
    model.version = variant.config.key()
    model.user_defined_metadata.update({"config": variant.config.to_json(), "weights": variant.weights})
    return model


def write(variant: Variant, folder: Path) -> list[Artefact]:
    # Compression draws progress bars too; what fails raises.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _written(variant, folder)


def _written(variant: Variant, folder: Path) -> list[Artefact]:
    import coremltools.optimize.coreml as optimize

    artefacts = []
    given = "RGB image, normalisation inside" if variant.options.image_input else "normalised NCHW tensor"
    for target in TARGETS:
        model = _converted(variant, target)
        # Compression of the newer target only: per-channel palettes and cheap int8 came after iOS 16.
        jobs: list[tuple[str, str, float, Any]] = [("", "fp16", HALF, None)]
        if target == TARGETS[-1] and variant.options.int8:
            jobs.append(("_int8", "int8 weights", COMPRESSED, lambda m: optimize.linear_quantize_weights(
                m, optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(mode="linear_symmetric")))))
        if target == TARGETS[-1] and variant.options.palettize:
            jobs.append((f"_pal{PALETTE_BITS}", f"{PALETTE_BITS}-bit palettes", COMPRESSED,
                         lambda m: optimize.palettize_weights(m, optimize.OptimizationConfig(
                             optimize.OpPalettizerConfig(mode="kmeans", nbits=PALETTE_BITS)))))
        for suffix, words, tolerance, change in jobs:
            path = folder / f"{variant.name}_{target.lower()}{suffix}.mlpackage"
            (model if change is None else change(model)).save(str(path))
            artefacts.append(Artefact(path.name, tolerance, f"{target} and later, {words}, {given}"))
    return artefacts


def load(folder: Path, artefact: Artefact) -> Runner:
    """On macOS a runner; elsewhere the package is only read and its interface checked."""
    ct = coremltools()
    path = folder / artefact.file
    mac = sys.platform == "darwin"
    model = ct.models.MLModel(str(path), skip_model_load=not mac)
    description = model.get_spec().description
    image = description.input[0]
    outputs = {output.name for output in description.output}
    if image.name != "image" or not outputs & {"logits", "class_label"}:
        raise Failure(f"{artefact.file} has the input {image.name!r} and the outputs {sorted(outputs)}, "
                      "expected 'image' and logits or class_label")
    if not mac:
        raise NotAvailable("Core ML runs on macOS only; the package was read and its inputs and outputs are right")
    if "class_label" in outputs:
        raise NotAvailable("it gives labels and probabilities, no logits to compare; it was loaded and its inputs and "
                           "outputs are right")
    sheet = read_sheet(folder)
    picture = image.type.WhichOneof("Type") == "imageType"

    def one(x: np.ndarray) -> np.ndarray:
        if picture:
            from PIL import Image

            pixels = (x.transpose(1, 2, 0) * np.array(sheet["std"]) + np.array(sheet["mean"])) * 255
            found = model.predict({"image": Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))})
        else:
            found = model.predict({"image": x[None]})
        return np.asarray(found["logits"], np.float32).reshape(-1)

    return lambda images: np.stack([one(x) for x in images])
