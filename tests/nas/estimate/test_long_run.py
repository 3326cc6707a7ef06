"""The estimate of a long run from size and short runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from fastvit import PRESETS
from nas.estimate.long_run import TASKS, estimated_long_run, features, fit_law, make_pairs, pairs, population, z_scores
from nas.estimate.surrogate import Evidence, Surrogate
from space import SearchSpace


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("short", [False, True])
def test_the_law_of_one_task_ranks_and_covers_the_other_one(task: str, short: bool) -> None:
    own = [pair for pair in pairs() if pair.task == task]
    assert len(own) >= 30
    assert all(pair.config not in PRESETS.values() for pair in own)
    middle, sd = np.empty(len(own)), np.empty(len(own))
    for index, pair in enumerate(own):
        rest = [one for one in pairs() if one.task != task and one.config != pair.config]
        x = features([pair.config], [pair.short] if short else None)
        [middle[index]], [sd[index]] = fit_law(rest, short=short).predict(x, return_std=True)
    truth = np.array([pair.long for pair in own])
    assert kendalltau(middle, truth).statistic > 0.4
    assert np.mean(np.abs(truth - middle) < 1.96 * sd) >= 0.85


def test_the_pairs_that_ship_are_those_of_the_table() -> None:
    made = make_pairs()
    assert [(pair.task, pair.config) for pair in made] == [(pair.task, pair.config) for pair in pairs()]
    for name in ("short", "score", "long"):
        np.testing.assert_allclose([getattr(p, name) for p in made], [getattr(p, name) for p in pairs()], atol=0.02)


def test_estimates_are_scores_with_their_intervals() -> None:
    smallest, largest = SearchSpace.load("default").smallest_and_largest()
    found = np.array(estimated_long_run([smallest, *PRESETS.values(), largest]))
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[:, 1] < found[:, 0]).all()
    assert (np.diff(found[:, 0]) > -0.01).all(), "larger presets reach more; size does not tell S12 from SA12"


def test_short_runs_move_the_estimate() -> None:
    low, middle, high = estimated_long_run([PRESETS["t8"]] * 3, [-1.0, None, 1.0])
    assert low[0] < high[0]
    assert middle[1] < middle[0] < middle[2]


def test_a_posterior_that_knows_nothing_puts_everybody_near_the_middle() -> None:
    rng, configs = np.random.default_rng(0), population()
    signal = [Evidence(config, 120, float(rng.standard_normal()), 0.1) for config in configs]
    blind = z_scores(Surrogate(120).fit(signal), configs, configs)
    seen = z_scores(Surrogate(120).fit([Evidence(c, 120, 0.1 * sum(c.depths), 0.1) for c in configs]), configs, configs)
    assert np.abs(blind).mean() < np.abs(seen).mean()
    assert seen.std() > 0.8
