"""What a proxy reaches after a long run, estimated from its size and from what short runs on the user's task say.

On each task of FastViT-Bench the posterior of short runs stands beside long runs from random weights. Bayesian ridge
regression (MacKay, 1992) of the long run on the logarithms of GMACs, parameters, depth and activations and on that
posterior, over both tasks, is the law; without a posterior, the same on size alone. Both are always labelled estimated.

Tasks differ in their scales, so scores enter as z-scores among the benchmark's configurations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.estimate.surrogate import Surrogate, bench_evidence, size_features

TASKS = ("builtin", "shapes")
LONG = 1200  # steps, from random weights
PAIRS = Path(__file__).parents[1] / "bench" / "long_runs.json"  # python -m nas.bench pairs


@dataclass(frozen=True)
class Pair:
    """A configuration's z-score after short runs, and its score and z-score after long ones, on one task."""

    task: str
    config: FastViTConfig
    short: float
    score: float
    long: float


def z_scores(model: Surrogate, configs: Sequence[FastViTConfig], among: Sequence[FastViTConfig]) -> np.ndarray:
    """Posterior means of `configs`, as standard deviations above the mean of `among`: (N,).

    What the posterior does not know counts as spread, so that one which has learned nothing puts everybody at 0.
    """
    mean, sd = model.predict(among)
    return np.asarray((model.predict(configs)[0] - mean.mean()) / np.hypot(mean.std(), np.sqrt(np.mean(sd**2))))


def make_pairs() -> list[Pair]:
    """What FastViT-Bench holds of both; fitting the two posteriors takes seconds, so that their result ships."""
    from nas.bench.table import lean_rows
    from nas.proxy.recipe import ALONE, RECIPE, RUNGS

    long, short, found = lean_rows(ALONE), lean_rows(RECIPE), []
    for task in TASKS:
        truth: dict[FastViTConfig, list[float]] = {}
        for row in long:
            if (row["task"], row["steps"], row["preset"]) == (task, LONG, None):
                truth.setdefault(FastViTConfig.from_dict(row["config"]), []).append(row["score"])
        model = Surrogate(RUNGS[-1]).fit(bench_evidence([row for row in short if row["task"] == task]))
        if not model.ready or not truth:
            continue
        scores = np.array([np.mean(one) for one in truth.values()])
        before = z_scores(model, list(truth), list(truth))
        found += [Pair(task, *values) for values in zip(
            truth, before.tolist(), scores.tolist(), ((scores - scores.mean()) / scores.std()).tolist(), strict=True)]
    return found


@lru_cache(maxsize=1)
def pairs() -> list[Pair]:
    """The pairs as they ship."""
    return [Pair(**row | {"config": FastViTConfig.from_dict(row["config"])})
            for row in json.loads(PAIRS.read_text(encoding="utf-8"))]


def features(configs: Sequence[FastViTConfig], short: Sequence[float] | np.ndarray | None) -> np.ndarray:
    """What the law reads of each configuration: (N, 4) without z-scores after short runs, (N, 5) with them."""
    sizes = np.array([size_features(config) for config in configs])
    return sizes if short is None else np.column_stack([sizes, short])


def fit_law(known: Sequence[Pair], *, short: bool) -> Any:
    """The law of these pairs; `short` says whether it reads the z-score after short runs."""
    from sklearn.linear_model import BayesianRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = features([pair.config for pair in known], [pair.short for pair in known] if short else None)
    return make_pipeline(StandardScaler(), BayesianRidge()).fit(x, [pair.long for pair in known])


@lru_cache(maxsize=2)
def _law(short: bool) -> Any:
    return fit_law(pairs(), short=short)


@lru_cache(maxsize=1)
def _scale() -> tuple[float, float]:
    """Mean and standard deviation of the long runs' scores, averaged over tasks."""
    by_task = [[pair.score for pair in pairs() if pair.task == task] for task in TASKS]
    return float(np.mean([np.mean(scores) for scores in by_task])), float(np.mean([np.std(s) for s in by_task]))


def population() -> list[FastViTConfig]:
    """Reference set for the z-score."""
    return list(dict.fromkeys(pair.config for pair in pairs()))


def estimated_long_run(configs: Sequence[FastViTConfig], short: Sequence[float | None] | None = None,
                       ) -> list[tuple[float, float, float]]:
    """Estimated score of each proxy after LONG steps on a task like FastViT-Bench's, with the ends of its 95 %
    interval.

    Args:
        short: z-score of each configuration in the posterior of a run; None, as a whole or for one of them, where
            there is none: size alone then decides.
    """
    short = [None] * len(configs) if short is None else short
    middle, sd = np.empty(len(configs)), np.empty(len(configs))
    for known in (False, True):
        at = [index for index, value in enumerate(short) if (value is not None) is known]
        if at:
            own = [short[index] or 0.0 for index in at] if known else None
            middle[at], sd[at] = _law(known).predict(features([configs[i] for i in at], own), return_std=True)
    mean, scale = _scale()
    ends = mean + scale * np.array([middle, middle - 1.96 * sd, middle + 1.96 * sd])
    return [(float(m), float(low), float(high)) for m, low, high in np.clip(ends, 0, 1).T]
