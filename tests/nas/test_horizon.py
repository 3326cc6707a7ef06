"""The estimate of a long run from size."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from fastvit import PRESETS
from nas.horizon import estimated_long_run, fit_law, long_runs
from nas.surrogate import size_features
from space import SearchSpace


def test_the_law_ranks_and_covers_configurations_that_it_has_not_seen() -> None:
    configs, scores = long_runs()
    assert len(configs) >= 30
    assert all(config not in PRESETS.values() for config in configs)
    middle, sd = np.empty(len(configs)), np.empty(len(configs))
    for index, config in enumerate(configs):
        rest = [one for one in configs if one != config]
        [middle[index]], [sd[index]] = fit_law(rest, np.delete(scores, index)).predict(
            [size_features(config)], return_std=True)
    assert kendalltau(middle, scores).statistic > 0.5
    assert 0.85 <= np.mean(np.abs(scores - middle) < 1.96 * sd) < 1


def test_estimates_are_scores_with_their_intervals() -> None:
    smallest, largest = SearchSpace.load("default").corners()
    found = np.array(estimated_long_run([smallest, *PRESETS.values(), largest]))
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[:, 1] < found[:, 0]).all()
    assert (np.diff(found[:, 0]) >= 0).all(), "larger presets reach more"
