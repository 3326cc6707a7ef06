"""What a proxy reaches after a long run, estimated from size: a law fitted to FastViT-Bench, always labelled estimated.

Bayesian ridge regression (MacKay, 1992) of the scores of long runs on the logarithms of GMACs, parameters, depth and
activations. The scores of short runs do not enter: at equal latency they added nothing to it (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.bench.table import current_rows
from nas.surrogate import size_features

TASK, STEPS = "shapes", 1200


def long_runs() -> tuple[list[FastViTConfig], np.ndarray]:
    """The configurations of FastViT-Bench's long runs, presets left out, and their scores (N,), means over seeds."""
    found: dict[FastViTConfig, list[float]] = {}
    for row in current_rows():
        if (row["task"], row["steps"], row["preset"]) == (TASK, STEPS, None):
            found.setdefault(FastViTConfig.from_dict(row["config"]), []).append(row["score"])
    return list(found), np.array([np.mean(scores) for scores in found.values()])


def fit_law(configs: Sequence[FastViTConfig], scores: np.ndarray) -> Any:
    """The law of these runs: a regression on `size_features`."""
    from sklearn.linear_model import BayesianRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), BayesianRidge()).fit([size_features(config) for config in configs], scores)


@lru_cache(maxsize=1)
def _law() -> Any:
    return fit_law(*long_runs())


def estimated_long_run(configs: Sequence[FastViTConfig]) -> list[tuple[float, float, float]]:
    """Estimated score of each proxy after STEPS steps on TASK, with the ends of its 95 % interval."""
    middle, sd = _law().predict([size_features(config) for config in configs], return_std=True)
    return [(float(m), float(low), float(high)) for m, low, high in
            zip(*np.clip([middle, middle - 1.96 * sd, middle + 1.96 * sd], 0, 1), strict=True)]
