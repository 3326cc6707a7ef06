"""One trial as it was recorded, and the flat forms that tables and fronts are made of."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig

if TYPE_CHECKING:
    import optuna

OUTCOMES = ("complete", "over_budget", "stopped_early", "failed", "running")


@dataclass(frozen=True)
class TrialRecord:
    """One trial as it was recorded. `latency` is a Measurement as a dict, its origin included."""

    trial: int
    outcome: str = "running"
    reason: str | None = None
    traceback: str | None = None
    config: dict[str, Any] | None = None
    config_key: str | None = None
    preset: str | None = None
    anchor: str | None = None
    latency: dict[str, Any] | None = None
    score: float | None = None
    score_sd: float | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    curve: list[Any] = field(default_factory=list)
    params_m: float | None = None
    gmacs: float | None = None
    cost_s: dict[str, float] = field(default_factory=dict)
    worker: str | None = None
    confirms: int | None = None  # the trial that this one trains again, with `seed`
    seed: int | None = None
    confirmed: dict[str, Any] | None = None  # what nas.search.confirmation.fold made of those trials
    posterior: tuple[float, float] | None = None  # mean and standard deviation, by nas.estimate.posterior
    standing: float | None = None  # of that mean among FastViT-Bench's configurations, by nas.estimate.long_run
    apart_sd: float | None = None  # of the posterior beside others, where they share a level that is in doubt
    reused_from: int | None = None
    retried: bool = False  # its worker died; another trial took its place
    score_origin: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    started: datetime.datetime | None = None
    finished: datetime.datetime | None = None

    @property
    def latency_ms(self) -> float | None:
        return None if self.latency is None else self.latency.get("latency_ms")

    @property
    def origin(self) -> str | None:
        return None if self.latency is None else self.latency.get("origin")

    @property
    def searched(self) -> bool:
        """Whether the search itself asked for it: no preset, no anchor, and not given up for a second try."""
        return not (self.preset or self.anchor or self.retried)

    @property
    def counted(self) -> bool:
        """Whether it counts against a limit on trials: what was only predicted cost nothing."""
        return self.searched and self.origin != "predicted"

    @property
    def estimate(self) -> tuple[float | None, float | None, str | None]:
        """The score that is shown, its standard deviation, and where it is from: "confirmed" (the mean of several
        seeds), "posterior" (what all trials together say) or "run" (one training, sampling error only)."""
        if self.confirmed is not None:
            return self.confirmed["score"], self.confirmed["score_sd"], "confirmed"
        if self.posterior is not None and self.outcome == "complete":
            return *self.posterior, "posterior"
        return self.score, self.score_sd, None if self.score is None else "run"

    @cached_property
    def architecture(self) -> FastViTConfig:
        """`config`, read once: every proposal asks for those of all trials."""
        assert self.config is not None, "a model of timm has none"
        return FastViTConfig.from_dict(self.config)

    @property
    def words(self) -> str:
        return self.architecture.describe() if self.config else (self.anchor or "")

    def row(self) -> dict[str, Any]:
        """The flat form: one row of a table, without curves and samples."""
        latency = self.latency or {}
        score, score_sd, score_from = self.estimate
        return {
            "trial": self.trial, "outcome": self.outcome, "preset": self.preset, "anchor": self.anchor,
            "latency_ms": latency.get("latency_ms"), "ci_low_ms": latency.get("ci_low_ms"),
            "ci_high_ms": latency.get("ci_high_ms"), "origin": latency.get("origin"),
            "score": score, "score_sd": score_sd, "score_from": score_from, "score_run": self.score,
            "standing": self.standing,
            "params_m": self.params_m, "gmacs": self.gmacs,
            "words": self.words, "reason": self.reason, "config_key": self.config_key,
            "confirmed": self.confirmed is not None, "steps": self.scores[-1]["step"] if self.scores else None,
            "latency_s": self.cost_s.get("latency"), "proxy_s": self.cost_s.get("proxy"), "worker": self.worker,
            "started": self.started, "finished": self.finished,
            "config": json.dumps(self.config) if self.config else None,
        }

    def point(self) -> dict[str, Any]:
        """The contract's point of a front."""
        row = self.row()
        keys = ("trial", "config_key", "latency_ms", "ci_low_ms", "ci_high_ms", "score", "score_sd", "score_from",
                "score_run", "params_m", "gmacs", "confirmed", "words")
        return {"config": self.config} | {key: row[key] for key in keys}


def to_record(trial: optuna.trial.FrozenTrial) -> TrialRecord:
    """A trial of the study as the record that its worker kept in it."""
    values = trial.user_attrs | trial.user_attrs.get("record", {})
    known = {key: values[key] for key in TrialRecord.__dataclass_fields__ if key in values}
    known.pop("trial", None)
    if trial.state.name == "FAIL" and known.get("outcome") is None:
        known |= {"outcome": "failed", "reason": values.get("reason", "the worker died")}
    known.setdefault("outcome", "running")
    return TrialRecord(**known | {"trial": trial.number, "params": dict(trial.params),
                                  "started": trial.datetime_start, "finished": trial.datetime_complete})
