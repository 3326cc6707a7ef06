"""Confirmed scores against runs whose truth is known (benchmarks/confirmation_coverage.py has the long version)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.confirmation_coverage import mean_of_three, mixed, simulated
from nas.estimate.offsets import Score, fit_seeds


@pytest.mark.parametrize("presets", [0, 1, 2, 7])
def test_intervals_hold_and_the_winners_curse_is_gone(presets: int) -> None:
    rng = np.random.default_rng(presets)
    error, sd = (np.concatenate(part) for part in zip(*(
        simulated(presets, 0.016, 0.010, rng, mixed) for _ in range(120)), strict=True))
    held = np.mean(np.abs(error) < 1.96 * sd)
    assert 0.90 < held < 0.995
    assert abs(error.mean()) < 0.003
    null, claimed = (np.concatenate(part) for part in zip(*(
        simulated(presets, 0.016, 0.010, rng, mean_of_three) for _ in range(400)), strict=True))
    assert null.mean() > 0.0008, "the mean of all three holds the run that was chosen"
    assert np.mean(np.abs(null) < 1.96 * claimed) < 0.92


def test_many_items_tell_the_offsets_and_the_noise() -> None:
    rng = np.random.default_rng(0)
    scores = tuple(Score(item, seed, value + offset + 0.01 * rng.standard_normal())
                   for item, value in enumerate(rng.random(200)) for seed, offset in ((0, 0.0), (1, 0.05), (2, -0.03)))
    found = fit_seeds(scores, 0)
    assert found.offsets == pytest.approx({0: 0.0, 1: 0.05, 2: -0.03}, abs=0.003)
    assert np.mean([sd for _, sd in found.scores.values()]) == pytest.approx(0.01 / 3**0.5, rel=0.1)


def test_an_offset_common_to_all_scores_moves_nothing_else() -> None:
    scores = [Score(item, seed, item / 10 + seed / 50) for item in range(5) for seed in range(3)]
    one, other = (fit_seeds(tuple(Score(s.item, s.seed, s.value + level) for s in scores), 0) for level in (0.0, 7.0))
    assert other.offsets == pytest.approx(one.offsets)
    assert [m for m, _ in other.scores.values()] == pytest.approx([m + 7 for m, _ in one.scores.values()])
    assert fit_seeds((), 0).scores == {}


def test_an_offset_is_a_mean_and_no_median() -> None:
    scores = [Score(item, seed, item / 100 + (0.04 if seed and item % 4 == 0 else 0.0))
              for item in range(40) for seed in (0, 1)]
    assert fit_seeds(tuple(scores), 0).offsets[1] == pytest.approx(0.01, abs=0.002)
