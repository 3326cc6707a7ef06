"""The space against its own promises: one way to every configuration, and the presets inside."""

from __future__ import annotations

import itertools
import math

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvit import ABLATIONS, PRESETS, FastViTConfig
from space import SearchSpace

SPACE = SearchSpace.load("default")

TINY = """
depths = [[1, 2], [1], [1], [1]]
widths = [[16], [32], [48, 64], [96, 128]]
mlp_ratios = [2, 3]
mixers = [["repmixer"], ["repmixer"], ["repmixer", "attention"], ["attention", "pool"]]
mixer_kernels = [3, 5]
ffn_kernels = [3]
"""

configs = st.integers(0, 2**32 - 1).map(lambda seed: SPACE.sample(np.random.default_rng(seed)))


@pytest.mark.parametrize("name", PRESETS | ABLATIONS)
def test_published_networks_are_inside(name: str) -> None:
    config = (PRESETS | ABLATIONS)[name]
    assert config in SPACE
    assert SPACE.suggest(optuna.trial.FixedTrial(SPACE.encode(config))) == config


@given(configs)
@settings(max_examples=60, deadline=None)
def test_suggest_inverts_encode(config: FastViTConfig) -> None:
    trial = optuna.trial.FixedTrial(SPACE.encode(config))
    assert SPACE.suggest(trial) == config
    # No dead parameter: every one that is encoded was asked for, and none that was not.
    assert set(trial.distributions) == set(SPACE.encode(config))


@given(configs)
@settings(max_examples=15, deadline=None)
def test_neighbours_are_one_symmetric_step_away(config: FastViTConfig) -> None:
    around = SPACE.neighbours(config)
    assert len(set(around)) == len(around)
    for other in around:
        assert other in SPACE
        assert config in SPACE.neighbours(other)
        changed = {key for key, value in other.to_dict().items() if value != config.to_dict()[key]}
        assert changed - {"cpe", "head_dim", "cpe_kernel"} <= {"mixers", "mixer_kernels"} or len(changed) == 1


def test_size_counts_the_configurations() -> None:
    space = SearchSpace.from_toml(TINY)
    choices = {d.name: d.choices for d in space.dimensions}
    fixed = {"width1": 16}
    found = set()
    for values in itertools.product(*choices.values()):
        found.add(space.suggest(optuna.trial.FixedTrial(dict(zip(choices, values, strict=True)) | fixed)))
    assert space.size() == len(found)
    assert len({config.key() for config in found}) == len(found)


def test_reaches_a_tenth_of_t8() -> None:
    cost = pytest.importorskip("fastvit.cost").cost
    smallest = FastViTConfig(**{key: tuple(entry[0] for entry in entries) for key, entries in SPACE.choices.items()})
    assert smallest in SPACE
    assert cost(smallest, 256).gmacs < cost(PRESETS["t8"], 256).gmacs / 10


@given(configs, configs)
@settings(max_examples=30, deadline=None)
def test_features_tell_configurations_apart(one: FastViTConfig, other: FastViTConfig) -> None:
    a, b = SPACE.features(one), SPACE.features(other)
    assert a.shape == (len(SPACE.feature_names),)
    assert np.array_equal(a, b) == (one == other)


def test_a_sampler_walks_the_space() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, multivariate=True, group=True))
    study.optimize(lambda trial: math.log(SPACE.suggest(trial).widths[3]), n_trials=15)
    assert all(SPACE.suggest(optuna.trial.FixedTrial(t.params)) in SPACE for t in study.trials)


ODD = ["2000000000", "-1", "inf", "nan", "true", '"' + "x" * 10**5 + '"', "[]", "[[[1]]]",
       "{ low = 1, high = 2000000000 }",
       "{ low = 1, high = 3, step = 0 }", "{ low = [], high = {} }", "[" + "1," * 10**5 + "]", "[[1], [1], [1], [{}]]"]


@pytest.mark.parametrize("key", ["depths", "widths", "mlp_ratios", "mixers", "mixer_kernels", "patch_kernels", "name",
                                 "fixed", "head_dim", "stem_stride", "branches"])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20])
def test_no_entry_takes_what_is_odd(key: str, odd: str) -> None:
    """A space comes with a foreign run: an entry is refused in a sentence, or harmless."""
    lines = [line for line in TINY.splitlines() if not line.startswith(key)]
    fixed = key in ("head_dim", "stem_stride", "branches")
    text = "\n".join([*lines, "[fixed]", f"{key} = {odd}"] if fixed else [f"{key} = {odd}", *lines])
    said = ""
    try:
        space = SearchSpace.from_toml(text)
        assert max(len(dimension.choices) for dimension in space.dimensions) <= 256
    except ValueError as error:
        said = str(error)
    assert len(said) < 600


@pytest.mark.parametrize(("text", "words"), [
    ("depths = 3", "mixers is missing"),
    (TINY.replace("mixer_kernels = [3, 5]", "mixer_kernels = [3, 4]"), "mixer_kernels"),
    (TINY.replace("[48, 64], [96, 128]", "[48], [96, 128]"), "head_dim = 32"),
    (TINY.replace("mlp_ratios = [2, 3]", "mlp_ratios = [2, 2.001]"), "same network"),
    (TINY.replace("depths", "depth"), "'depth' is no dimension"),
    (TINY.replace('"pool"', '"pol"'), "'pol' must be one of"),
    (TINY.replace("[1, 2]", "[2, 2]"), "twice"),
    (TINY + "[fixed]\nwidth = 3", "[fixed]"),
    ("depths = [", "not valid TOML"),
    (TINY.replace("[1, 2]", "{ low = 2, high = 1 }"), "low <= high"),
    (TINY.replace("depths = [[1, 2], [1], [1], [1]]", "depths = [[0], [1], [1], [1]]"), "depths"),
])
def test_a_bad_space_is_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")) as caught:
        SearchSpace.from_toml(text)
    assert "\n" not in str(caught.value)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean default"):
        SearchSpace.load("defautl")


def test_outside_says_which_choice() -> None:
    with pytest.raises(ValueError, match="width1"):
        SPACE.encode(PRESETS["t8"].replace(widths=(50, 96, 192, 384)))
    with pytest.raises(ValueError, match="stem_stride"):
        SPACE.encode(PRESETS["t8"].replace(stem_stride=2))
