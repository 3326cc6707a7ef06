"""Against timm: the same weights give the same numbers, and no key is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import nn

from fastvit import PRESETS, FastViT, FastViTConfig, reparameterize
from fastvit import timm as bridge
from fastvit.cost import cost
from space import SearchSpace
from tests.fastvit.test_fusion import narrow, randomise

# What facts about the released code say: millions of parameters, train form and stock fusion.
STOCK = {"t8": (4.026, 3.996), "t12": (7.554, 7.509), "s12": (9.474, 9.429), "sa12": (11.581, 11.545),
         "sa24": (21.554, 21.501), "sa36": (31.527, 31.457), "ma36": (44.068, 43.985)}


def pair(name: str) -> tuple[FastViT, nn.Module]:
    """Our preset and timm's with the same random weights and statistics, in eval mode."""
    torch.manual_seed(0)
    ours = randomise(FastViT(PRESETS[name])).eval()
    theirs = timm.create_model(f"fastvit_{name}").eval()
    theirs.load_state_dict(bridge.to_timm(ours.state_dict(), PRESETS[name]), strict=True)
    return ours, theirs


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", PRESETS)
@torch.no_grad()
def test_logits_and_features_are_timms(name: str) -> None:
    ours, theirs = pair(name)
    for size in ((256, 256), (96, 160)):
        x = torch.randn(1, 3, *size)
        assert relative(ours(x), theirs(x)) < 1e-5
        for mine, other in zip(ours.forward_features(x),
                               theirs.forward_intermediates(x, intermediates_only=True), strict=True):
            assert relative(mine, other) < 1e-5


@pytest.mark.parametrize("name", PRESETS)
@torch.no_grad()
def test_fused_against_timms_fused(name: str) -> None:
    ours, theirs = pair(name)
    stock = reparameterize_model(theirs)
    fused = reparameterize(ours)
    x = torch.randn(1, 3, 96, 96)
    assert relative(fused(x), stock(x)) < 1e-5
    train_m, fused_m = STOCK[name]
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 3) == train_m
    left = sum(p.numel() for p in stock.parameters())
    assert round(left / 1e6, 3) == fused_m
    # The rest of the way. RepMixer block: the ConvFFN's BatchNorm (2 C) becomes a bias (C), its layer scale (C) goes.
    # Attention block: two BatchNorms (4 C) and two layer scales (2 C) go, four biases (C and 3 C for qkv) come.
    config = PRESETS[name]
    assert left - sum(p.numel() for p in fused.parameters()) == sum(
        2 * depth * width for depth, width in zip(config.depths, config.widths, strict=True))
    assert round(cost(config).params_m * 1e6) == sum(p.numel() for p in fused.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_state_dicts_convert_both_ways(name: str) -> None:
    config = PRESETS[name]
    state = FastViT(config, num_classes=10).state_dict()
    for there, back in ((bridge.to_timm, bridge.from_timm), (bridge.to_apple, bridge.from_apple)):
        foreign = there(state, config)
        assert len(foreign) == len(state)
        returned = back(foreign, config)
        assert returned.keys() == state.keys()
        assert all(torch.equal(returned[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", ["t8", "sa12"])
def test_apples_names_are_what_timm_reads(name: str) -> None:
    from timm.models.fastvit import checkpoint_filter_fn

    config = PRESETS[name]
    state = FastViT(config).state_dict()
    model = timm.create_model(f"fastvit_{name}")
    read = checkpoint_filter_fn(bridge.to_apple(state, config), model)
    expected = bridge.to_timm(state, config)
    assert read.keys() == expected.keys()


def test_what_does_not_fit_is_one_sentence() -> None:
    state = bridge.to_timm(FastViT(PRESETS["t8"]).state_dict(), PRESETS["t8"])
    with pytest.raises(ValueError, match="lacks"):
        bridge.from_timm({k: v for k, v in state.items() if "stages.2" not in k}, PRESETS["t8"])
    with pytest.raises(ValueError, match="no place"):
        bridge.from_timm({**state, "extra": torch.zeros(1)}, PRESETS["t8"])
    stock = reparameterize_model(timm.create_model("fastvit_t8").eval()).state_dict()
    with pytest.raises(ValueError, match="fused"):
        bridge.from_timm(stock, PRESETS["t8"])


@pytest.mark.parametrize("config", [
    PRESETS["t8"].replace(depths=(1, 3, 2, 1), mixer_kernels=(5, 5, 5, 5), patch_kernels=(5, 5, 5)),
    PRESETS["sa12"].replace(depths=(1, 1, 2, 1), widths=(32, 64, 128, 256), mlp_ratios=(2, 3, 4, 2.5)),
])
@torch.no_grad()
def test_expressible_configurations_reload_exactly(config: FastViTConfig) -> None:
    found = bridge.expressible_in_timm(config)
    assert found is not None
    base, args = found
    ours = randomise(FastViT(config, num_classes=10)).eval()
    theirs = timm.create_model(base, num_classes=10, **args).eval()
    theirs.load_state_dict(bridge.to_timm(ours.state_dict(), config), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert relative(ours(x), theirs(x)) < 1e-6


def test_most_of_the_space_is_not_expressible() -> None:
    space = SearchSpace.load("default")
    rng = np.random.default_rng(0)
    assert all(bridge.expressible_in_timm(space.sample(rng)) is None for _ in range(20))
    assert all(bridge.expressible_in_timm(config) is not None for config in PRESETS.values())


@torch.no_grad()
def test_a_registered_variant_is_a_timm_model() -> None:
    config = narrow(SearchSpace.load("default").sample(np.random.default_rng(4)))
    bridge.register("fastvit_test_variant", config)
    model = timm.create_model("fastvit_test_variant", num_classes=5, in_chans=1).eval()
    x = torch.randn(2, 1, 64, 64)
    assert model(x).shape == (2, 5)
    assert torch.allclose(model.forward_head(model.forward_features(x)), model(x))
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)
    features = timm.create_model("fastvit_test_variant", features_only=True, out_indices=(1, 3)).eval()
    maps = features(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == features.feature_info.channels() == [config.widths[1], config.widths[3]]
    assert features.feature_info.reduction() == [8, 32]
    with pytest.raises(ValueError, match="another"):
        bridge.register("fastvit_t8", config)
