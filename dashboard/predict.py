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

from fastvit.config import FastViTConfig
from nas.estimate.surrogate import Evidence, Surrogate, evidence, shipped_evidence
from nas.latency.predictor import Predictor
from nas.latency.runtime import Setting
from nas.latency.size_law import SizeLaw
from nas.runs.run import TrialRecord

FOLDS, MOST = 5, 300  # the latest trials; more cost seconds and say little more
_NOTHING: dict[str, float | None] = {"latency_ms": None, "latency_sd": None, "score": None, "score_sd": None}


@dataclass(frozen=True)
class Forecast:
    """Fitted on one run; `words` say on how much, and how well it does."""

    latency: Predictor
    score: Surrogate
    words: str

    @classmethod
    def fit(cls, meta: Mapping[str, Any], records: Sequence[TrialRecord]) -> Forecast:
        """From what a run measured and trained: run.json's content and its trials."""
        measured = _some([r for r in records if r.origin == "measured" and r.config and r.latency_ms])
        latency = Predictor(meta["device"], Setting(int(meta["resolution"])))
        latency.update(measured)
        rows = evidence(_some([r for r in records if r.outcome in ("complete", "stopped_early")]))
        # A run from before steps were recorded predicts at the last rung that any trial reached.
        steps = int(meta.get("steps") or max((row.steps for row in rows), default=1))
        score = Surrogate(steps, most_rows=MOST)
        score.fit([*shipped_evidence(str(meta.get("task_fingerprint"))), *rows])
        said = [_latency_words(latency, measured) if latency.ready else "", _score_words(score, rows, steps)]
        return cls(latency, score, " ".join(filter(None, said)) or
                   "Too few trials are complete: nothing can be predicted yet.")

    def guess(self, configs: Sequence[FastViTConfig]) -> list[dict[str, float | None]]:
        """latency_ms, latency_sd, score, score_sd of each configuration; None where the run says too little."""
        found = [dict(_NOTHING) for _ in configs]
        for model, names in ((self.latency, ("latency_ms", "latency_sd")), (self.score, ("score", "score_sd"))):
            if model.ready:
                for one, *values in zip(found, *model.predict(configs), strict=True):
                    one |= dict(zip(names, map(float, values), strict=True))
        return found


def _some(records: list[TrialRecord]) -> list[TrialRecord]:
    """The presets, which every reader knows, and the latest of the others; a configuration once."""
    found = {r.config_key: r for r in [*records[-MOST:], *(r for r in records if r.preset)]}
    return list(found.values())


def _rms(errors: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(errors))))


def _latency_words(model: Predictor, measured: Sequence[TrialRecord]) -> str:
    null = []
    for fold in range(FOLDS):
        law = SizeLaw(model.setting.resolution)
        law.fit([r for i, r in enumerate(measured) if i % FOLDS != fold])
        null += [(law.predict(r.architecture) or np.nan) / (r.latency_ms or np.nan) - 1 for r in measured[fold::FOLDS]]
    return (f"Latency is predicted from {len(model.configs)} measured configurations: error on those left out "
            f"{100 * _rms(model.cross_validated(FOLDS)):.1f} % (by size alone {100 * _rms(null):.1f} %).")


def _score_words(model: Surrogate, rows: Sequence[Evidence], steps: int) -> str:
    """Errors against single runs: their own noise is part of both."""
    if not model.ready:
        return ""
    keys = list(dict.fromkeys(row.config.key() for row in rows if row.steps == steps))
    errors, null = [], []
    for fold in range(FOLDS):
        out = set(keys[fold::FOLDS])
        kept = [row for row in rows if row.config.key() not in out]
        held = [row for row in rows if row.config.key() in out and row.steps == steps]
        at_top = [row.score for row in kept if row.steps == steps]
        if held and at_top:
            mean, _ = copy.copy(model).fit(kept, optimize=False).predict([row.config for row in held])
            errors += [row.score - value for row, value in zip(held, mean, strict=True)]
            null += [row.score - float(np.mean(at_top)) for row in held]
    return (f"The score is predicted from {len(keys)} trained ones: error on those left out {_rms(errors):.3f} "
            f"(always guessing the mean {_rms(null):.3f})." if errors else "")
