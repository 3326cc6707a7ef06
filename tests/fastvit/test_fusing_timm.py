"""reparameterize() on timm's FastViTs, timm's reparameterize_model on ours, and what stays trainable."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import nn

from fastvit import PRESETS, SUCCESSORS, FastViT, FastViTConfig, reparameterize
from fastvit import timm as bridge
from fastvit.blocks import Foldable
from tests.fastvit.test_fusion import narrow, randomise

LEFT = (nn.BatchNorm2d, timm.layers.LayerScale2d, timm.models.fastvit.LayerScale2d)


def small(name: str, **rest: object) -> nn.Module:
    """timm's architecture of a name at an eighth of the width, with statistics that would show a mistake."""
    args = {"layers": (1, 1, 2, 1), "embed_dims": (32, 32, 32, 64)}
    if name in ("fastvit_mci3", "fastvit_mci4"):
        args = {"layers": (1, 1, 1, 1, 1), "embed_dims": (32, 32, 32, 64, 64)}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **args, **rest)
    for module in randomise(model).modules():
        if isinstance(module, timm.models.fastvit.LayerScale2d):
            nn.init.uniform_(module.gamma, 0.5, 1.5)
    return model


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


STOCK = ["fastvit_t8", "fastvit_sa12", "fastvit_ma36", "fastvit_mci0", "fastvit_mci3"]


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("before", ["as trained", "fused by timm"])
@torch.no_grad()
def test_stock_networks_fuse_completely(name: str, before: str) -> None:
    model = small(name).train()
    x = torch.randn(2, 3, 64, 96)
    expected = copy.deepcopy(model).eval()(x)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    fused = reparameterize(model if before == "as trained" else reparameterize_model(model.eval()))
    assert relative(fused(x), expected) < 2e-5
    assert not [module for module in fused.modules() if isinstance(module, LEFT)]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    again = reparameterize(fused)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in fused.state_dict().items())


@torch.no_grad()
def test_stock_networks_keep_timms_ways_once_fused() -> None:
    model = small("fastvit_sa12").eval()
    x = torch.randn(1, 3, 64, 64)
    maps = model.forward_intermediates(x, intermediates_only=True)
    fused = reparameterize(model)
    for mine, theirs in zip(fused.forward_intermediates(x, intermediates_only=True), maps, strict=True):
        assert relative(mine, theirs) < 2e-5
    fused.reset_classifier(3)
    assert fused(x).shape == (1, 3)
    features = small("fastvit_sa12", features_only=True).eval()
    for mine, theirs in zip(reparameterize(features)(x), features(x), strict=True):
        assert relative(mine, theirs) < 2e-5


OURS: dict[str, FastViTConfig] = {
    **{name: narrow(PRESETS[name]) for name in ("t8", "sa12")}, "mci0": narrow(SUCCESSORS["mci0"]),
    "mci3": narrow(SUCCESSORS["mci3"]), "lean": narrow(PRESETS["sa12"]).replace(branches=0),
    "pool": narrow(PRESETS["t8"]).replace(mixers=("pool", "convmixer", "repmixer", "repmixer"))}


@pytest.mark.parametrize("name", OURS)
@torch.no_grad()
def test_timm_fuses_ours_completely(name: str) -> None:
    model = randomise(bridge.TimmFastViT(OURS[name], 10)).eval()
    fused = reparameterize_model(model)
    x = torch.randn(2, 3, 64, 64)
    assert not [module for module in fused.modules() if isinstance(module, (nn.BatchNorm2d, Foldable))]
    assert torch.equal(fused(x), reparameterize(model)(x))
    assert relative(fused(x), model(x)) < 2e-5


def test_what_holds_no_fastvit_is_refused() -> None:
    with pytest.raises(ValueError, match="ResNet holds no block of a FastViT"):
        reparameterize(timm.create_model("resnet10t"))
    with pytest.raises(ValueError, match="nothing to fold"):
        reparameterize(nn.Sequential())


def untrained(fused: nn.Module) -> list[str]:
    """Names of the parameters that a backward pass gives no gradient; in float64, where small ones do not vanish."""
    fused.double().train()(torch.randn(2, 3, 64, 64, dtype=torch.float64)).square().sum().backward()
    return [name for name, parameter in fused.named_parameters() if parameter.grad is None or not parameter.grad.any()]


@pytest.mark.parametrize("name", OURS)
def test_a_fused_network_trains_whole(name: str) -> None:
    fused = reparameterize(randomise(FastViT(OURS[name], 10)))
    assert all(parameter.requires_grad for parameter in fused.parameters())
    assert untrained(fused) == []


@pytest.mark.parametrize("name", ["fastvit_sa12", "fastvit_mci0"])
def test_a_fused_stock_network_trains_whole(name: str) -> None:
    assert untrained(reparameterize(small(name))) == []


def test_timms_way_keeps_what_was_frozen_and_ours_frees_it() -> None:
    model = bridge.TimmFastViT(OURS["sa12"], 10).requires_grad_(False).eval()
    model.get_classifier().requires_grad_(True)
    names = [name for name, parameter in reparameterize_model(model).named_parameters() if parameter.requires_grad]
    assert sorted(names) == ["head.bias", "head.weight"]
    assert all(parameter.requires_grad for parameter in reparameterize(model).parameters())
    assert all(p.requires_grad for p in reparameterize(small("fastvit_sa12").requires_grad_(False)).parameters())
