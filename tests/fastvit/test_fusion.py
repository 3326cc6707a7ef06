"""Fusion over every preset and over random configurations, with statistics that would show a mistake."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastvit import ABLATIONS, PRESETS, FastViT, FastViTConfig, reparameterize
from fastvit.blocks import LayerScale, RepMixer
from fastvit.cost import cost
from space import SearchSpace

SPACE = SearchSpace.load("default")
PUBLISHED = PRESETS | ABLATIONS


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """BatchNorm statistics and layer scales of order 1: fresh ones would let a wrong fusion pass."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.5, generator=generator)
            if isinstance(module, LayerScale):
                module.gamma.uniform_(0.5, 1.5, generator=generator)
    return model


@torch.no_grad()
def difference(config: FastViTConfig, dtype: torch.dtype, size: tuple[int, int]) -> float:
    torch.manual_seed(0)
    model = randomise(FastViT(config, num_classes=10)).to(dtype).eval()
    x = torch.randn(1, 3, *size, dtype=dtype)
    expected = model(x)
    return float((expected - reparameterize(model)(x)).norm() / expected.norm())


def narrow(config: FastViTConfig) -> FastViTConfig:
    """The same choices at an eighth of the width: quick, and no weaker a test of the algebra."""
    return config.replace(widths=tuple(4 * max(1, round(w / 32)) for w in config.widths), head_dim=4,
                          depths=tuple(min(d, 2) for d in config.depths))


configs = st.builds(
    lambda seed, branches: narrow(SPACE.sample(np.random.default_rng(seed))).replace(branches=branches),
    st.integers(0, 2**32 - 1), st.integers(0, 3))


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_agree(name: str) -> None:
    assert difference(PUBLISHED[name], torch.float32, (64, 96)) <= 1e-5


@pytest.mark.parametrize("name", ["t8", "sa12", "v3"])
def test_presets_agree_in_double(name: str) -> None:
    assert difference(PUBLISHED[name], torch.float64, (64, 64)) <= 1e-10


@given(configs, st.sampled_from([1, 2, 4]), st.sampled_from([(33, 47), (64, 64)]))
@settings(max_examples=20, deadline=None)
def test_random_configurations_agree(config: FastViTConfig, stem_stride: int, size: tuple[int, int]) -> None:
    assert difference(config.replace(stem_stride=stem_stride), torch.float64, size) <= 1e-10


@pytest.mark.parametrize("mixer", ["pool", "convmixer"])
def test_baseline_mixers_agree(mixer: str) -> None:
    config = narrow(PRESETS["t8"]).replace(mixers=(mixer,) * 4)
    assert difference(config, torch.float64, (64, 64)) <= 1e-10


def test_a_wrong_fusion_is_seen() -> None:
    model = randomise(FastViT(narrow(PRESETS["t8"]), num_classes=10)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        for module in model.modules():
            if isinstance(module, RepMixer):
                module.scale.gamma.zero_()
        wrong = reparameterize(model)(x)
    assert (expected - wrong).norm() / expected.norm() > 1e-2


@pytest.mark.parametrize("name", ["t8", "ma36"])
def test_nothing_is_left(name: str) -> None:
    fused = reparameterize(FastViT(PRESETS[name]))
    assert not [m for m in fused.modules() if isinstance(m, (nn.BatchNorm2d, LayerScale))]
    again = reparameterize(fused)
    for (key, one), (other_key, other) in zip(fused.state_dict().items(), again.state_dict().items(), strict=True):
        assert key == other_key
        assert torch.equal(one, other)


def test_train_mode_model_is_left_as_it_was() -> None:
    model = randomise(FastViT(narrow(PRESETS["sa12"]), num_classes=10)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        fused = reparameterize(model)(x)
        assert model.training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert torch.allclose(fused, model.eval()(x), rtol=1e-4, atol=1e-4)


def test_inside_a_larger_model() -> None:
    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = FastViT(narrow(PRESETS["t8"]), num_classes=0)
            self.head = nn.Conv2d(self.backbone.config.widths[1], 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.backbone.forward_features(x)[1])

    model = randomise(Segmenter()).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(x), reparameterize(model)(x), rtol=1e-4, atol=1e-4)


@given(configs, st.sampled_from([32, (48, 65)]), st.sampled_from(["train", "fused"]))
@settings(max_examples=20, deadline=None)
def test_cost_counts_what_is_built(config: FastViTConfig, size: int | tuple[int, int], form: str) -> None:
    model = FastViT(config, num_classes=7)
    built = model.eval() if form == "train" else reparameterize(model)
    counted = cost(config, size, num_classes=7, form=form)
    assert round(counted.params_m * 1e6) == sum(p.numel() for p in built.parameters())
    macs = 0

    def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += module.weight.numel() * output.shape[-1] * output.shape[-2]
        if isinstance(module, nn.Linear):
            macs += module.weight.numel()

    for module in built.modules():
        module.register_forward_hook(hook)
    height, width = (size, size) if isinstance(size, int) else size
    with torch.no_grad():
        maps = model.forward_features(torch.zeros(1, 3, height, width)) if form == "train" else []
        macs = 0
        built(torch.zeros(1, 3, height, width))
    if form == "train":
        for stage, found in enumerate(maps):
            if config.mixers[stage] == "attention":
                macs += 2 * (found.shape[-1] * found.shape[-2]) ** 2 * config.widths[stage] * config.depths[stage]
        assert counted.gmacs == pytest.approx(macs / 1e9, rel=1e-9)


@pytest.mark.parametrize(("name", "train_m", "gmacs"), [
    ("t8", 4.026, 0.685), ("t12", 7.554, 1.391), ("s12", 9.474, 1.794), ("sa12", 11.581, 1.937),
    ("sa24", 21.554, 3.762), ("sa36", 31.527, 5.587), ("ma36", 44.068, 7.815)])
def test_published_costs(name: str, train_m: float, gmacs: float) -> None:
    assert round(cost(PRESETS[name], form="train").params_m, 3) == train_m
    assert round(cost(PRESETS[name], 256).gmacs, 3) == gmacs


def test_forms_and_features() -> None:
    model = FastViT(narrow(PRESETS["sa12"]), num_classes=0).eval()
    with torch.no_grad():
        maps = model.forward_features(torch.randn(2, 3, 64, 96))
        assert [tuple(m.shape[1:]) for m in maps] == [
            (w, 64 // s, 96 // s) for w, s in zip(model.config.widths, model.config.strides, strict=True)]
        assert model(torch.randn(2, 3, 64, 96)).shape == (2, 2 * model.config.widths[-1])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_fused_network_can_be_trained_whole(frozen: bool) -> None:
    model = FastViT(PRESETS["sa12"].replace(depths=(1, 1, 1, 1), widths=(32, 32, 32, 32)), num_classes=3)
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    fused = reparameterize(model)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in fused.parameters())
    fused(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in fused.parameters())
    assert all(parameter.requires_grad is not frozen for parameter in model.parameters()), "the original stays"
