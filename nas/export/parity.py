"""How far the forms of one network are from each other: largest differences of their logits on probe images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nas.export.formats import Runner

if TYPE_CHECKING:
    from fastvit.model import FastViT


INCOMPARABLE = 1e30  # other shapes, or not numbers; JSON knows no infinity


def differences(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Largest absolute difference, and the same relative to the largest absolute expected logit."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return {"absolute": INCOMPARABLE, "relative": INCOMPARABLE}
    absolute = float(np.abs(expected.astype(np.float64) - found).max())
    scale = float(np.abs(expected).max())
    return {"absolute": absolute, "relative": absolute / scale if scale else absolute}


def compare(reference: Runner, other: Runner, probes: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """differences() for each kind of probe image."""
    return {kind: differences(reference(images), other(images)) for kind, images in probes.items()}


def worst(found: dict[str, dict[str, float]]) -> float:
    """The largest relative difference over all kinds of images."""
    return max(kind["relative"] for kind in found.values())


def module_runner(model: Any) -> Runner:
    """A torch module in eval mode as a function of arrays."""
    import torch

    device = next(model.parameters()).device

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images).to(device)).float().cpu().numpy()  # type: ignore[no-any-return]

    return run


def stressed(model: FastViT) -> FastViT:
    """A copy with BatchNorm statistics and layer scales of order 1.

    Fresh layer scales of 1e-5 multiply every mixer and FFN nearly away, so that a wrong fusion of them
    would hide in the rounding; in this copy it is seen.
    """
    import copy

    import torch
    from torch import nn

    from fastvit.blocks import LayerScale

    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in other.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.5, generator=generator)
            if isinstance(module, LayerScale):
                module.gamma.uniform_(0.5, 1.5, generator=generator)
    return other.eval()
