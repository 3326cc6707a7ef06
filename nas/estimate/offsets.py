"""Each seed trains from its own parent network, which shifts all its scores by about the same offset. This module
estimates the offsets, and what a configuration scores on the level of the first seed.

The model: score = configuration + offset of the seed + noise, with normal offsets and noise, and nothing assumed of
configurations. Given the ratio of the two variances it is solved exactly (Henderson's mixed-model equations); the ratio
is averaged over a grid, for three seeds say too little of it to pick one: maximum likelihood puts it at zero in every
other run, and its intervals are then too narrow (benchmarks/confirmation_coverage.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nas.runs.budget import Z_95

Offsets = Mapping[tuple[int, int], float]  # by seed and steps

# As FastViT-Bench has them on two tasks after 120 steps (benchmarks/confirmation_coverage.py bench).
NOISE_SD = 0.016  # of one training about its configuration and seed
RATIO = 0.4  # variance of offsets over variance of noise
NOISE_WORTH = 4  # trainings that NOISE_SD is worth beside those of the run
_RATIOS = RATIO * np.exp(np.linspace(-3, 3, 13))
_PRIOR = -0.5 * (np.log(_RATIOS / RATIO) / 1.2) ** 2  # log weights: a factor of 3 to both sides


@dataclass(frozen=True)
class Score:
    """One training's score: of which item, with which seed."""

    item: Hashable
    seed: int
    value: float


@dataclass(frozen=True)
class SeedModel:
    """What the scores say, on the level of the first seed: of each further seed its offset, and of each item its score
    with a standard deviation, of which 1.96 to both sides are a 95 % interval."""

    offsets: dict[int, float]
    scores: dict[Hashable, tuple[float, float]]


@lru_cache(maxsize=32)  # a run's trials are read often, and change seldom
def fit_seeds(scores: tuple[Score, ...], first: int) -> SeedModel:
    """Estimate items and seeds together.

    Args:
        scores: no score for which its item was chosen among them: the best of many is too high, and would pull its
            seed's offset with it.
        first: the seed on whose level everything is stated.
    """
    items = list(dict.fromkeys(score.item for score in scores))
    seeds = list(dict.fromkeys([first, *(score.seed for score in scores)]))
    if not items:
        return SeedModel({first: 0.0}, {})
    count, width = len(items), len(items) + len(seeds)
    at_item, at_seed = {item: i for i, item in enumerate(items)}, {seed: count + i for i, seed in enumerate(seeds)}
    design = np.zeros((len(scores), width))
    rows = np.arange(len(scores))
    design[rows, [at_item[score.item] for score in scores]] = 1.0
    design[rows, [at_seed[score.seed] for score in scores]] = 1.0
    y = np.array([score.value for score in scores])
    centre = y.mean()
    gram, right = design.T @ design, design.T @ (y - centre)
    # On the first seed's level: item + offset of the first seed, and the difference of two offsets.
    wanted = np.eye(width)
    wanted[:count, count] += 1.0
    wanted[count:, count] -= 1.0
    freedom = NOISE_WORTH + len(scores) - count
    means, spreads, weights = [], [], []
    for ratio, prior in zip(_RATIOS, _PRIOR, strict=True):
        inverse = np.linalg.inv(gram + np.diag([0.0] * count + [1 / ratio] * len(seeds)))
        found = inverse @ right
        rest = NOISE_WORTH * NOISE_SD**2 + float((y - centre) @ (y - centre) - found @ right)
        means.append(wanted @ found)
        spreads.append(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", wanted, inverse, wanted), 0) * rest / freedom))
        _, log_det = np.linalg.slogdet(inverse)
        weights.append(prior + 0.5 * log_det - 0.5 * len(seeds) * np.log(ratio) - 0.5 * freedom * np.log(rest))
    weight = np.exp(np.array(weights) - max(weights))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    half = _half_width(np.array(means) - mean, np.array(spreads), weight, freedom)
    return SeedModel(
        {seed: float(mean[at_seed[seed]]) for seed in seeds},
        {item: (float(centre + mean[i]), float(half[i] / Z_95)) for item, i in at_item.items()})


def _half_width(centres: np.ndarray, spreads: np.ndarray, weight: np.ndarray, freedom: float) -> np.ndarray:
    """Of the 95 % interval about 0 of mixtures (ratios, N) of Student's t: (N,)."""
    from scipy.stats import t

    low, high = np.zeros(centres.shape[1]), 40 * (spreads.max(0) + np.abs(centres).max(0)) + 1e-12
    spreads = np.maximum(spreads, 1e-12)
    for _ in range(30):
        middle = (low + high) / 2
        inside = weight @ (t.cdf((middle - centres) / spreads, freedom) - t.cdf((-middle - centres) / spreads, freedom))
        low, high = np.where(inside < 0.95, middle, low), np.where(inside < 0.95, high, middle)
    return np.asarray(high)


def seed_offsets(scores: Iterable[tuple[Hashable, int, int, float]], first: int) -> dict[tuple[int, int], float]:
    """How much more everything scores with each further seed than with seed `first`, after as many steps.

    Args:
        scores: (item, seed, steps, score); see `fit_seeds`.

    Returns:
        By seed and steps; seeds that no item shares with another one are missing.
    """
    by_steps: dict[int, dict[tuple[Hashable, int], float]] = {}
    for item, seed, steps, score in scores:
        by_steps.setdefault(steps, {})[item, seed] = score
    found: dict[tuple[int, int], float] = {}
    for steps, known in by_steps.items():
        seeds: dict[Hashable, set[int]] = {}
        for item, seed in known:
            seeds.setdefault(item, set()).add(seed)
        shared = [Score(item, seed, value) for (item, seed), value in known.items() if len(seeds[item]) > 1]
        if shared:
            found |= {(seed, steps): offset for seed, offset in fit_seeds(tuple(shared), first).offsets.items()}
    return found


def bench_scores(task_fingerprint: str) -> list[tuple[Hashable, int, int, float]]:
    """What FastViT-Bench holds of exactly these images; empty for images of one's own."""
    from nas.bench.table import rows_of

    return [(row["key"], row["seed"], row["steps"], row["score"]) for row in rows_of(task_fingerprint)]


@lru_cache(maxsize=4)
def shipped_offsets(task_fingerprint: str, first: int) -> Offsets:
    """Seed offsets from FastViT-Bench for this task fingerprint; empty for a user's images."""
    return seed_offsets(bench_scores(task_fingerprint), first)


def bench_offsets(rows: Iterable[dict[str, Any]], first: int) -> Offsets:
    """Seed offsets from rows of FastViT-Bench, of one recipe and task."""
    return seed_offsets([(row["key"], row["seed"], row["steps"], row["score"]) for row in rows], first)
