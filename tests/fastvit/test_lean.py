"""The lean form of a trained, over-parameterized network: the same function, and one that training goes on from."""

from __future__ import annotations

import pytest
import torch

from fastvit import PRESETS, FastViT
from fastvit.lean import settle, to_lean
from tests.fastvit.test_fusion import narrow


def trained(name: str, branches: int = 1) -> FastViT:
    """With weights and statistics of order 1, as training leaves them."""
    torch.manual_seed(0)
    model = FastViT(narrow(PRESETS[name]).replace(branches=branches, layer_scale_init=0.5, drop_path=0.0), 7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return model.eval()


@pytest.mark.parametrize("branches", [0, 1, 3])
@pytest.mark.parametrize("name", ["t8", "sa12"])
def test_the_lean_form_computes_the_same(name: str, branches: int) -> None:
    model, images = trained(name, branches), torch.randn(4, 3, 64, 64)
    lean = to_lean(model)
    assert lean.config.branches == 0
    with torch.no_grad():
        before = model(images)
        assert torch.allclose(lean(images), before, rtol=1e-3, atol=1e-3 * before.abs().max().item())
        settle(lean, images.split(2))
        assert torch.allclose(lean(images), before, rtol=1e-3, atol=1e-3 * before.abs().max().item())
        # With statistics of the same images, training begins at what was learned.
        lean.train()
        found = lean(images)
    assert (found - before).norm() < 0.05 * before.norm()
