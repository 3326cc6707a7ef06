"""Dominance and hypervolume against what they mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import hypervolume, pareto

points = st.lists(st.tuples(st.floats(0.1, 10), st.floats(-1, 1)), max_size=30)


@given(points)
def test_front_is_what_no_point_dominates(found: list[tuple[float, float]]) -> None:
    ms, score = [p[0] for p in found], [p[1] for p in found]
    kept = pareto(ms, score)
    dominated = {i for i, a in enumerate(found) for b in found
                 if b[0] <= a[0] and b[1] >= a[1] and b != a}
    assert {found[i] for i in kept} == {p for i, p in enumerate(found) if i not in dominated}
    assert [ms[i] for i in kept] == sorted(ms[i] for i in kept)


@given(points)
def test_hypervolume_equals_a_fine_sum(found: list[tuple[float, float]]) -> None:
    ms, score = np.array([p[0] for p in found]), np.array([p[1] for p in found])
    grid = (np.arange(4000) + 0.5) / 4000 * 5
    best = [max([s for m, s in found if m <= g and s > 0], default=0.0) for g in grid[::20]]
    assert hypervolume(ms, score, budget_ms=5) == pytest.approx(np.mean(best), abs=0.03)


def test_nothing_gives_nothing() -> None:
    assert pareto([], []) == []
    assert pareto([float("nan"), 1.0], [1.0, float("nan")]) == []
    assert hypervolume([3.0], [1.0], budget_ms=2) == 0


def test_of_ties_the_better_then_the_first_is_kept() -> None:
    assert pareto([1.0, 1.0, 2.0, 2.0], [0.5, 0.7, 0.7, 0.9]) == [1, 3]
    assert pareto([2.0, 1.0, 1.0, 2.0], [0.9, 0.5, 0.5, 0.9]) == [1, 0], "of equals the first"
    assert pareto([1.0, 2.0], [0.5, 0.5]) == [0]
