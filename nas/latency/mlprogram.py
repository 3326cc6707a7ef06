"""One way from a network to a Core ML package, for measuring and for export. Runs wherever coremltools installs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("iOS16", "iOS18")


def coremltools() -> Any:
    """The package, imported without its warnings of untested versions and of what only a Mac has."""
    logging.getLogger("coremltools").setLevel(logging.CRITICAL)
    import coremltools as ct

    return ct


def convert(module: nn.Module, shape: tuple[int, ...], target: str, **arguments: Any) -> Any:
    """`module` as an mlprogram in float16 (a coremltools MLModel, not loaded) with the input "image" (B, 3, H, W) and
    the output "logits"; `arguments` replace what is passed to coremltools.convert.
    """
    import torch

    ct = coremltools()

    # coremltools draws progress bars for each of its hundred passes; what fails raises.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # torch.jit.trace fails on attention with NumPy 2.4, and an undecomposed program is refused.
        program = torch.export.export(module, (torch.zeros(shape),)).run_decompositions({})
        given: dict[str, Any] = {"inputs": [ct.TensorType(name="image", shape=shape)],
                                 "outputs": [ct.TensorType(name="logits")]}
        return ct.convert(program, minimum_deployment_target=getattr(ct.target, target), convert_to="mlprogram",
                          compute_precision=ct.precision.FLOAT16, compute_units=ct.ComputeUnit.ALL,
                          skip_model_load=True, **given | arguments)
