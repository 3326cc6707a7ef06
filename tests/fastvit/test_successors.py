"""MCi0 to MCi4: weight for weight timm's, fused without BatchNorm, and no key of an older network moves."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from torch import nn

from fastvit import PRESETS, SUCCESSORS, FastViT, FastViTConfig, reparameterize
from fastvit import timm as bridge
from fastvit.blocks import LayerScale
from fastvit.cost import cost
from fastvit.presets import named_config
from nas.latency.onnx_graph import to_onnx
from space import SearchSpace
from tests.fastvit.test_fusion import narrow, randomise

# The keys of the published seven as they were before there were successors: caches and runs are filed under them.
KEYS = {"t8": "a96c16fdd31c88aa", "t12": "2182bb5e3c57188c", "s12": "5820d97f68a705ef", "sa12": "e436a8b07ddf8a51",
        "sa24": "97e4c7174b87d77e", "sa36": "fce8cfe3d0cd689a", "ma36": "c0d66dbac24e85e6"}


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", SUCCESSORS)
def test_shapes_and_names_are_timms(name: str) -> None:
    config = SUCCESSORS[name]
    with torch.device("meta"):
        ours = bridge.to_timm(FastViT(config, 512).state_dict(), config)
        theirs = timm.create_model(f"fastvit_{name}", num_classes=512).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
    base, args = bridge.expressible_in_timm(config) or ("", {})
    with torch.device("meta"):
        stock = timm.create_model(base, num_classes=512, **json.loads(json.dumps(args))).state_dict()
    assert {key: value.shape for key, value in stock.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("name", ["mci0", pytest.param("mci2", marks=pytest.mark.slow), "mci3",
                                  pytest.param("mci4", marks=pytest.mark.slow)])
@torch.no_grad()
def test_numbers_are_timms_and_fused_ones_too(name: str) -> None:
    # Fewer blocks of the same kinds: quick, and no weaker.
    config = SUCCESSORS[name].replace(depths=(1,) * SUCCESSORS[name].stages)
    torch.manual_seed(0)
    ours = randomise(FastViT(config, 10)).eval()
    theirs = timm.create_model(f"fastvit_{name}", layers=config.depths, num_classes=10).eval()
    theirs.load_state_dict(bridge.to_timm(ours.state_dict(), config), strict=True)
    x = torch.randn(1, 3, 96, 128)
    assert relative(ours(x), theirs(x)) < 1e-5
    for mine, other in zip(ours.forward_features(x), theirs.forward_intermediates(x, intermediates_only=True),
                           strict=True):
        assert relative(mine, other) < 1e-5
    fused = reparameterize(ours)
    assert relative(fused(x), theirs(x)) < 2e-5
    assert not [module for module in fused.modules() if isinstance(module, (nn.BatchNorm2d, LayerScale))]


@pytest.mark.parametrize("name", SUCCESSORS)
def test_state_dicts_convert_both_ways(name: str) -> None:
    config = narrow(SUCCESSORS[name])
    state = FastViT(config, 10).state_dict()
    for there, back in ((bridge.to_timm, bridge.from_timm), (bridge.to_apple, bridge.from_apple)):
        returned = back(there(state, config), config)
        assert all(torch.equal(returned[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", ["mci0", "mci3"])
@torch.no_grad()
def test_timm_reads_apples_names(name: str) -> None:
    from timm.models.fastvit import checkpoint_filter_fn

    config = SUCCESSORS[name].replace(depths=(1,) * SUCCESSORS[name].stages)
    with torch.device("meta"):
        state = FastViT(config).state_dict()
        model = timm.create_model(f"fastvit_{name}", layers=config.depths)
    assert checkpoint_filter_fn(bridge.to_apple(state, config), model).keys() == bridge.to_timm(state, config).keys()


@pytest.mark.parametrize("name", SUCCESSORS)
@pytest.mark.parametrize("form", ["train", "fused"])
def test_cost_counts_what_is_built(name: str, form: str) -> None:
    config = SUCCESSORS[name]
    with torch.device("meta"):
        built = FastViT(config)
        built = built if form == "train" else reparameterize(built)
    assert round(cost(config, form=form).params_m * 1e6) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("name", ["mci0", "mci3"])
@torch.no_grad()
def test_the_written_graph_is_the_network(name: str) -> None:
    import numpy as np
    import onnxruntime

    fused = reparameterize(randomise(FastViT(narrow(SUCCESSORS[name]), 10)))
    x = torch.randn(1, 3, 96, 64)
    session = onnxruntime.InferenceSession(to_onnx(fused, (96, 64)).SerializeToString())
    found = session.run(None, {"image": x.numpy()})[0]
    assert np.abs(found - fused(x).numpy()).max() < 1e-4 * np.abs(found).max()


def test_no_older_key_moves_and_json_stays_readable() -> None:
    assert {name: config.key() for name, config in PRESETS.items()} == KEYS
    new = {"patch_se", "patch_act", "attention_norm", "stem_scale"}
    assert not any(new & config.to_dict().keys() for config in PRESETS.values())
    for config in SUCCESSORS.values():
        assert new & config.to_dict().keys()
        assert FastViTConfig.from_json(config.to_json()) == config
    assert len({config.key() for config in (*PRESETS.values(), *SUCCESSORS.values())}) == 12


def test_they_are_found_by_name_and_described() -> None:
    assert named_config("fastvit_mci3") == ("mci3", SUCCESSORS["mci3"])
    words = SUCCESSORS["mci0"].describe()
    assert "SE before stage 3, 4" in words
    assert "GELU in patch embeddings" in words
    assert "LayerNorm" in SUCCESSORS["mci4"].describe()


@pytest.mark.parametrize("wrong", [
    {"depths": (1, 1, 1)}, {"depths": (1,) * 6}, {"patch_se": (1, 0, 0)}, {"patch_se": (True,)}, {"patch_act": 1},
    {"attention_norm": "group"}, {"stem_scale": None}])
def test_what_cannot_be_is_one_sentence(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PRESETS["sa12"].replace(**wrong)


def test_defaults_repeat_for_a_fifth_stage() -> None:
    config = FastViTConfig(depths=(1,) * 5, widths=(8, 16, 32, 64, 128), mlp_ratios=(2,) * 5, mixers=("repmixer",) * 5)
    assert config.ffn_kernels == (7,) * 5
    assert config.patch_se == (False,) * 4
    assert config.strides == (4, 8, 16, 32, 64)


@pytest.mark.parametrize("name", ["mci0", "mci3"])
@torch.no_grad()
def test_their_proxies_start_from_a_slice_of_a_presets_parent(name: str) -> None:
    from fastvit.inherit import fill

    large, small = narrow(PRESETS["sa12"]).replace(branches=0), narrow(SUCCESSORS[name]).replace(branches=0)
    model = FastViT(small, 7)
    share, channels = fill(model, randomise(FastViT(large, 7)).state_dict(), large)
    assert 0.1 < share < 1
    assert len(channels) == 4
    assert torch.isfinite(model.train()(torch.randn(2, 3, 64, 64))).all()


def test_models_of_a_search_take_four_and_five_stages_together() -> None:
    import numpy as np

    from fastvit.difference import in_words, nearest_preset
    from nas.estimate.accuracy import features as of_accuracy
    from nas.estimate.surrogate import encode
    from nas.latency.choices import choices
    from nas.latency.features import features

    configs = [PRESETS["t8"], *SUCCESSORS.values()]
    assert np.isfinite(features(configs).values).all()
    alone = features(configs[:1])
    mixed = features(configs)
    for column, label in enumerate(mixed.names):
        expected = alone.values[0, alone.names.index(label)] if label in alone.names else 0.0
        assert mixed.values[0, column] == pytest.approx(expected)
    assert len({len(encode(config)) for config in configs}) == 1
    assert np.isfinite(choices(configs)).all()
    assert np.isfinite(of_accuracy(configs)).all()
    assert PRESETS["t8"].in_four_stages() is PRESETS["t8"]
    assert SUCCESSORS["mci3"].in_four_stages().depths == (2, 12, 24, 6)
    assert "stages 4 -> 5" in in_words(SUCCESSORS["mci3"], PRESETS[nearest_preset(SUCCESSORS["mci3"])])
    assert "with SE before stage 3, with SE before stage 4" in in_words(SUCCESSORS["mci0"], PRESETS["sa12"])


@pytest.mark.parametrize("name", ["mobileclip", "fastvithd"])
def test_their_spaces_hold_them_and_walk_both_ways(name: str) -> None:
    import numpy as np
    from optuna.trial import FixedTrial

    space = SearchSpace.load(name)
    assert {key for key, config in SUCCESSORS.items() if config in space} == (
        {"mci0", "mci1", "mci2"} if name == "mobileclip" else {"mci3", "mci4"})
    assert not any(config in space for config in PRESETS.values())
    rng = np.random.default_rng(0)
    for _ in range(20):
        config = space.sample(rng)
        assert space.suggest(FixedTrial(space.encode(config))) == config
        assert space.features(config).shape == (len(space.feature_names),)
        near = space.neighbours(config)
        assert all(config in space.neighbours(other) for other in near[:3])
