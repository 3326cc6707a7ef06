"""The one estimate of a run's scores: from the same evidence, with the same limits, wherever it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fastvit.config import FastViTConfig
from nas.data import DRAWN
from nas.estimate.surrogate import Evidence, Surrogate, evidence, shipped_evidence
from nas.runs.meta import RunMeta
from nas.runs.trial import Trial

REFIT_AT = 1.25  # times as much evidence: the kernel's own parameters are fitted again


class Scores(Protocol):
    """What a run says of any configuration's score."""

    @property
    def ready(self) -> bool: ...

    def predict(self, configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each configuration's score: (N,) each."""
        ...


@dataclass(frozen=True)
class Posterior:
    """On drawn tasks: what all trials of a run together say of the score at the top rung.

    `unseen_sd` is what another parent network would change, where the run knows only one.
    """

    model: Surrogate
    rows: tuple[Evidence, ...]
    unseen_sd: float

    @property
    def ready(self) -> bool:
        return self.model.ready

    @property
    def kept(self) -> dict[str, Any]:
        """What a later fit may begin with."""
        return {"theta": self.model.theta, "rows": len(self.rows)}

    def predict(self, configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = self.model.predict(configs)
        return mean, np.hypot(sd, self.unseen_sd)


class WholeNetworks:
    """On photographs: the estimate of whole networks (nas/estimate/judge.py)."""

    ready = True

    def __init__(self, meta: RunMeta, records: Sequence[Trial]) -> None:
        from nas.estimate.judge import run_judge

        self.judge = run_judge(meta, records)

    def predict(self, configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        found = self.judge.estimate(configs)
        return np.array([one.score for one in found]), np.array([one.sd for one in found])

    @property
    def origin(self) -> str:
        """What it rests on, in words."""
        return str(getattr(self.judge, "origin", ""))


def run_scores(meta: RunMeta, records: Sequence[Trial], kept: Mapping[str, Any] | None = None) -> Scores:
    """What a run says of scores, by its task; `kept` is as in fit_posterior."""
    if meta.task in DRAWN or meta.synthetic:
        return fit_posterior(meta, records, kept)
    return WholeNetworks(meta, records)


def fit_posterior(meta: RunMeta, records: Iterable[Trial], kept: Mapping[str, Any] | None = None) -> Posterior:
    """Fit the surrogate to every trial of a run; not `ready` with too few of them.

    The standard deviation holds the parent's chance: from the spread between parents where runs from several are known,
    and else by what FastViT-Bench says of it.

    Args:
        kept: the "theta" and the number of "rows" of an earlier fit. Its kernel stays as long as the evidence has not
            grown by a quarter, which saves seconds.
    """
    records = list(records)
    shipped = shipped_evidence(meta.task_fingerprint)
    rows = [*shipped, *evidence(records)]
    # A run from before steps were recorded predicts at the last rung that any trial reached.
    steps = meta.steps or max((row.steps for row in rows), default=1)
    fitted_to = int((kept or {}).get("rows") or 0)
    theta = kept["theta"] if kept and fitted_to <= len(rows) < REFIT_AT * fitted_to else None
    model = Surrogate(steps, seed=meta.seed).fit(rows, theta=theta)
    known = bool(shipped) or any(record.confirmed for record in records)
    return Posterior(model, tuple(rows), 0.0 if known or not model.ready else model.parent_sd)
