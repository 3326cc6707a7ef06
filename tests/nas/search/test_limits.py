"""Limits on size that a run is given: proposals and the front keep to them, presets beyond them stand beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.runs.trial import Rung
from nas.search.feasibility import limits_words, over_limits, within_limits
from nas.search.proposer import Proposer
from space import SearchSpace
from tests.nas.trials import meta, scored

T8 = PRESETS["t8"]


@pytest.mark.parametrize(("limits", "said"), [
    ({}, ""), ({"most_params_m": 5.0}, ""), ({"most_params_m": 3.5}, "3.99 M parameters, over --max-params-m 3.5"),
    ({"most_size_mb": 10.0}, "16.0 MB of weights, over --max-size-mb 10"),
    ({"most_size_mb": 10.0, "precision": "int8"}, ""),
    ({"most_memory_mb": 5.0}, "MB of memory, over --max-memory-mb 5"), ({"most_memory_mb": 500.0}, "")])
def test_a_configuration_beyond_a_limit_is_told_by_how_much(limits: dict[str, float], said: str) -> None:
    found = over_limits(replace(meta(num_classes=1000), **limits), T8)
    assert found.endswith(said) if said else not found


def test_the_limits_of_a_run_are_said_in_words() -> None:
    assert limits_words(meta()) == ""
    assert limits_words(meta(most_params_m=5, most_memory_mb=20)) == "at most 5 M parameters, at most 20 MB of memory"


def test_proposals_keep_to_the_limits_and_presets_beyond_them_are_no_front() -> None:
    space, run = SearchSpace.load("default"), meta(most_params_m=2.0, num_classes=10)

    def size(config: FastViTConfig) -> float:
        return cost(config, run.resolution, run.num_classes).params_m

    def predict_ms(configs: list[FastViTConfig]) -> np.ndarray:
        return np.array([np.inf if over_limits(run, config) else 0.3 * size(config) for config in configs])

    presets = [scored(number, config, 0.3 * size(config), Rung(120, 0.4 + 0.02 * number, 0.01))
               for number, config in enumerate(PRESETS.values())]
    rng = np.random.default_rng(0)
    small: list[FastViTConfig] = []
    while len(small) < 12:
        if size(config := space.sample(rng)) <= 2.0:
            small.append(config)
    trials = [*presets, *(scored(10 + number, config, 0.3 * size(config), Rung(120, 0.3 + 0.005 * number, 0.01))
                          for number, config in enumerate(small))]
    proposer = Proposer(space, 120, 2.0, rng, allows=lambda config: not over_limits(run, config))
    found = [proposer.next(trials, predict_ms) for _ in range(5)]
    assert all(config is not None and size(config) <= 2.0 for config in found)
    assert [within_limits(run, trial) for trial in presets] == [size(config) <= 2.0 for config in PRESETS.values()]
