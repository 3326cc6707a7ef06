"""Which choices matter: how much worse boosted trees predict unseen trials when one choice is shuffled.

Importance for the plain score mostly says that larger networks score higher. Under a budget that is no news, so
the score left over at equal latency is offered beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.runs.run import Trial
from space import SearchSpace

AT_LEAST, AT_MOST, FOLDS, REPEATS, SEED = 20, 1500, 5, 5, 0


@dataclass(frozen=True)
class Importance:
    """For one target: each choice with its importance, and what the trees it stands on are worth.

    `importance` is the rise of the error (R² lost) on trials that the trees have not seen, `sd` its standard
    deviation over folds; `towards` the rank correlation of the choice with the target, so that its sign says which
    way is better; `ways` says so in words.
    """

    target: str
    names: tuple[str, ...]
    importance: np.ndarray
    sd: np.ndarray
    towards: np.ndarray
    ways: tuple[str, ...]
    r2: float
    trials: int


def usable(records: Sequence[Trial], space: SearchSpace) -> tuple[list[Trial], np.ndarray]:
    """Complete, measured trials inside of the space, each configuration once, the latest first; and their features."""
    kept: dict[str, tuple[Trial, np.ndarray]] = {}
    for record in reversed(records):
        if (record.outcome != "complete" or record.score is None or record.origin != "measured" or not record.config
                or record.config_key is None or record.config_key in kept):
            continue
        try:
            kept[record.config_key] = record, space.features(record.config)
        except ValueError:
            continue
        if len(kept) == AT_MOST:
            break
    return [record for record, _ in kept.values()], np.array([row for _, row in kept.values()])


def target_values(records: Sequence[Trial], target: str) -> np.ndarray:
    """What is explained: higher is better for every target."""
    score = np.array([record.estimate.value if record.estimate else np.nan for record in records], float)
    log_ms = np.log([record.latency_ms or np.nan for record in records])
    if target == "latency":
        return -log_ms
    if target == "score":
        return score
    # Locally, because the score saturates: what remains of it after its quadratic course over log latency.
    return score - np.polynomial.Polynomial.fit(log_ms, score, 2)(log_ms)


def importance(records: Sequence[Trial], space: SearchSpace, target: str) -> Importance | None:
    """None when fewer than AT_LEAST different configurations are complete."""
    from scipy.stats import ConstantInputWarning, spearmanr
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    kept, rows = usable(records, space)
    if len(kept) < AT_LEAST:
        return None
    values = target_values(kept, target)
    found, predicted = [], np.zeros(len(values))
    for train, test in KFold(FOLDS, shuffle=True, random_state=SEED).split(rows):
        trees = GradientBoostingRegressor(n_estimators=150, max_depth=3, learning_rate=0.08, subsample=0.7,
                                          max_features=0.5, random_state=SEED).fit(rows[train], values[train])
        predicted[test] = trees.predict(rows[test])
        # R² of a fold would divide by that fold's own spread; all folds are put on the spread of all trials.
        scored = permutation_importance(trees, rows[test], values[test], scoring="neg_mean_squared_error",
                                        n_repeats=REPEATS, random_state=SEED)
        found.append(scored.importances_mean / values.var())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        towards = np.array([spearmanr(column, values).statistic for column in rows.T])
    r2 = 1 - float(np.mean((values - predicted) ** 2) / values.var())
    return Importance(target, space.feature_names, np.mean(found, 0), np.std(found, 0) / FOLDS**0.5,
                      np.nan_to_num(towards), _ways(space, towards), r2, len(kept))


def _ways(space: SearchSpace, towards: np.ndarray) -> tuple[str, ...]:
    found = []
    for (field, index), sign in zip(places(space).values(), towards, strict=True):
        options = space.choices[field][index]
        found.append(f"{options[-1] if sign >= 0 else options[0]} is better" if field == "mixers" else
                     "more is better" if sign >= 0 else "less is better")
    return tuple(found)


_LABELS = {"depth": "blocks, stage", "width": "channels, stage", "ratio": "FFN ratio, stage", "mixer": "mixer, stage",
           "mixer_kernel": "mixer kernel, stage", "ffn_kernel": "FFN kernel, stage"}


def label(name: str) -> str:
    """A space's feature in words: `depth3` is "blocks, stage 3"."""
    stem, number = name.rstrip("0123456789"), name[len(name.rstrip("0123456789")):]
    if stem == "patch_kernel":
        return f"patch kernel before stage {int(number) + 1}"
    return f"{_LABELS.get(stem, stem)} {number}"


def places(space: SearchSpace) -> dict[str, tuple[str, int]]:
    """The configuration's field and index behind each feature of a space."""
    varied = [(field, index) for field, entries in space.choices.items()
              for index, options in enumerate(entries) if len(options) > 1]
    return dict(zip(space.feature_names, varied, strict=True))


def value_of(config: FastViTConfig, field: str, index: int) -> Any:
    """One choice of a configuration; a kernel that attention ignores is None."""
    if field == "mixer_kernels" and config.mixers[index] == "attention":
        return None
    return getattr(config, field)[index]


@dataclass(frozen=True)
class Share:
    """How much of the space is under a budget, by prediction on `draws` random configurations."""

    latencies: np.ndarray
    budget_ms: float

    @property
    def share(self) -> float:
        return float((self.latencies <= self.budget_ms).mean())

    @property
    def error(self) -> float:
        """Standard error of the share from the number of draws alone."""
        return float(np.sqrt(max(self.share * (1 - self.share), 1 / len(self.latencies)) / len(self.latencies)))
