"""What a run's trials say of configurations it never tried: latency and score, each with a standard deviation.

Predictor and surrogate are the search's own. How well they do is said by their errors on configurations that were left
out, beside those of a guess that knows only the size (latency) or only the mean (score).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fastvit.config import FastViTConfig
from nas.estimate.posterior import Posterior, Scores, WholeNetworks, run_scores
from nas.latency.predictor import Predictor
from nas.latency.size_law import SizeLaw
from nas.runs.run import RunMeta, Trial

FOLDS = 5
_NOTHING: dict[str, float | None] = {"latency_ms": None, "latency_sd": None, "score": None, "score_sd": None}


@dataclass(frozen=True)
class Forecast:
    """Fitted on one run."""

    latency: Predictor
    score: Scores
    measured: tuple[Trial, ...]

    @classmethod
    @threadpool_limits.wrap(limits=1)  # threads of BLAS make these small fits ten times slower on a busy machine
    def fit(cls, meta: RunMeta, records: Sequence[Trial], kept: Mapping[str, Any] | None = None) -> Forecast:
        """From what a run measured and trained: what it was asked for, its trials, and what the search kept of its own
        fit."""
        latency, measured = latency_predictor(meta, records)
        return cls(latency, run_scores(meta, records, kept), measured)

    def guess(self, configs: Sequence[FastViTConfig]) -> list[dict[str, float | None]]:
        """latency_ms, latency_sd, score, score_sd of each configuration; None where the run says too little."""
        found = [dict(_NOTHING) for _ in configs]
        for model, names in ((self.latency, ("latency_ms", "latency_sd")), (self.score, ("score", "score_sd"))):
            if model.ready:
                for one, *values in zip(found, *model.predict(configs), strict=True):
                    one |= dict(zip(names, map(float, values), strict=True))
        return found

    @threadpool_limits.wrap(limits=1)
    def words(self) -> str:
        """On how much it rests, and how well it does on what was left out; takes a second."""
        said = [_latency_words(self.latency, self.measured) if self.latency.ready else "", _score_words(self.score)]
        return (" ".join(filter(None, said))
                or "Too few trials are complete: nothing can be predicted yet.")


def latency_predictor(meta: RunMeta, records: Sequence[Trial]) -> tuple[Predictor, tuple[Trial, ...]]:
    """The search's own predictor, and what it was updated with: every measured trial."""
    measured = tuple(r for r in records if r.origin == "measured" and r.config and r.latency_ms)
    latency = Predictor.of_run(meta.device, meta.resolution, meta.precision)
    latency.update(measured)
    return latency, measured


def known(records: Sequence[Trial], config: FastViTConfig) -> Trial | None:
    """The trial that tells most of a configuration: what was measured or trained is shown, not predicted."""
    tried = [r for r in records if r.config_key == config.key() and r.outcome in ("complete", "stopped_early")]
    return max(tried, key=lambda r: (r.outcome == "complete", r.confirmed is not None, r.trial), default=None)


def _rms(errors: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(errors))))


def _latency_words(model: Predictor, measured: Sequence[Trial]) -> str:
    null = []
    for fold in range(FOLDS):
        law = SizeLaw(model.setting.resolution)
        law.fit([r for i, r in enumerate(measured) if i % FOLDS != fold])
        null += [(law.predict(r.architecture) or np.nan) / (r.latency_ms or np.nan) - 1 for r in measured[fold::FOLDS]]
    return (f"Latency is predicted from {len(model.configs)} measured configurations: error on those left out "
            f"{100 * _rms(model.cross_validated(FOLDS)):.1f} % (by size alone {100 * _rms(null):.1f} %).")


def _score_words(fitted: Scores) -> str:
    """Errors against single runs: their own noise is part of both."""
    if isinstance(fitted, WholeNetworks):
        return f"The score is the estimated top-1 of a whole network; it rests on: {fitted.origin}."
    if not isinstance(fitted, Posterior) or not fitted.ready:
        return ""
    rows, steps = fitted.rows, fitted.model.steps
    keys = list(dict.fromkeys(row.config.key() for row in rows if row.steps == steps))
    errors, null = [], []
    for fold in range(FOLDS):
        out = set(keys[fold::FOLDS])
        kept = [row for row in rows if row.config.key() not in out]
        held = [row for row in rows if row.config.key() in out and row.steps == steps]
        at_top = [row.score for row in kept if row.steps == steps]
        model = copy.copy(fitted.model).fit(kept, optimize=False)
        if held and at_top and model.ready:
            mean, _ = model.predict([row.config for row in held])
            errors += [row.score - value for row, value in zip(held, mean, strict=True)]
            null += [row.score - float(np.mean(at_top)) for row in held]
    return (f"The score is predicted from {len(keys)} trained ones: error on those left out {_rms(errors):.3f} "
            f"(always guessing the mean {_rms(null):.3f})." if errors else "")
