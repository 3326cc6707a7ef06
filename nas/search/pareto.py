"""Dominance and hypervolume for two objectives: latency_ms (less is better) and score (more is better)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto(latency_ms: Sequence[float] | np.ndarray, score: Sequence[float] | np.ndarray) -> list[int]:
    """Indices of the points that no other point dominates, from fast to slow.

    Of points that are equal in both, the first is kept. NaN never is on the front.
    """
    ms, value = np.asarray(latency_ms, float), np.asarray(score, float)
    order = np.lexsort((np.arange(len(ms)), -value, ms))
    order = order[np.isfinite(ms[order]) & ~np.isnan(value[order])]
    best = np.maximum.accumulate(value[order])
    return [int(index) for index in order[value[order] > np.concatenate([[-np.inf], best[:-1]])]]


def hypervolume(latency_ms: Sequence[float] | np.ndarray, score: Sequence[float] | np.ndarray, *,
                budget_ms: float) -> float:
    """Area between the front and the corner (budget_ms, score 0), as a share of budget_ms x 1 score unit.

    Points over the budget or at no score add nothing; no point at all gives 0.
    """
    ms, value = np.asarray(latency_ms, float), np.asarray(score, float)
    inside = np.isfinite(ms) & np.isfinite(value) & (ms <= budget_ms) & (value > 0)
    ms, value = ms[inside], value[inside]
    area, floor = 0.0, 0.0
    for index in pareto(ms, value):
        area += (budget_ms - ms[index]) * (value[index] - floor)
        floor = value[index]
    return float(area / budget_ms)
