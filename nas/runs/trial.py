"""One trial as it was recorded: read from a study, written into it, and the flat forms that tables and fronts show."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nas.runs.budget import meets_budget
from nas.runs.measurement import Measurement, Origin
from nas.runs.trained import UNIT, Trained
from nas.runs.values import Config, Count, Flag, Number, Preset, Text, read

if TYPE_CHECKING:
    import optuna

    from fastvit.config import FastViTConfig

# No worker records these.
_ADDED = ("predicted_ms", "confirmed", "posterior", "z_score", "trained", "apart_sd", "params", "started", "finished")
PROXY_UNIT = "proxy score"
UNREADABLE = "what was recorded of this trial cannot be read"


class Outcome(StrEnum):
    """How a trial ended, in the order in which they are listed."""

    COMPLETE = "complete"
    OVER_BUDGET = "over_budget"
    STOPPED_EARLY = "stopped_early"
    FAILED = "failed"
    RUNNING = "running"

    @property
    def is_finished(self) -> bool:
        return self is not Outcome.RUNNING

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


class ScoreOrigin(StrEnum):
    """Who trained what was scored."""

    TRAINED = "trained"
    SHIPPED = "shipped"  # a row of FastViT-Bench


class Source(StrEnum):
    """What an estimate of a score rests on."""

    CONFIRMED = "confirmed"  # trainings with several seeds
    POSTERIOR = "posterior"  # what all trials together say
    RUN = "run"  # one training; its sd is the sampling error over the validation images
    FULL = "trained"  # the network itself, trained at full width; its sd is the sampling error over held-out images


@dataclass(frozen=True)
class Estimate:
    """A score with its standard deviation and what it rests on."""

    value: float
    sd: float | None
    source: Source
    unit: str = PROXY_UNIT


@dataclass(frozen=True)
class Rung:
    """The score after so many steps of training; `score_sd` is its sampling error, `seconds` of CPU are from the
    start of training."""

    step: Count
    score: Number
    score_sd: Number | None = None
    seconds: Number | None = None


@dataclass(frozen=True)
class SeedRun:
    """One training of a confirmed configuration. `offset` was taken off its scores: how much more all configurations
    score with this seed than with the first one."""

    seed: int
    score: float
    offset: float
    scores: tuple[Rung, ...]


@dataclass(frozen=True)
class Confirmed:
    """What training a configuration again with further seeds found; `runs` has the search's own run first."""

    score: float
    score_sd: float
    runs: tuple[SeedRun, ...]
    latency_before: Measurement | None = None


@dataclass(frozen=True)
class Request:
    """What a trial was asked to do, as it waits in the queue; a trial that the search proposed has nothing of it."""

    config: Config | None = None
    preset: Preset | None = None
    anchor: Text | None = None
    timm: Text | None = None  # the name of a model of timm, measured and not trained
    probe: Flag = False  # the smallest configuration: measured whatever its predicted latency is
    confirms: Count | None = None  # the trial that this one trains again, with `seed`
    trains: Count | None = None  # the trial whose configuration this one trains at full width, by `recipe`
    recipe: dict[Text, Any] | None = None  # nas.proxy.full_recipe.FullRecipe's values
    seed: Count | None = None  # None: the run's
    retry_of: Count | None = None  # the trial whose worker died
    deaths: Count = 0  # of workers, one after the other, before a new rung was reached
    scores: tuple[Rung, ...] = ()  # rungs that a worker reached before it died

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> Request:
        """From the attributes of a study's trial.

        Raises:
            ValueError: a value is not what it should be.
        """
        return read(cls, attrs)

    def to_attrs(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return values | ({"config": self.config.to_dict()} if self.config is not None else {}) | (
            {"scores": [asdict(rung) for rung in self.scores]} if self.scores else {})

    @property
    def always_measured(self) -> bool:
        """Whether it is measured and trained even where a prediction or a rival would rule it out."""
        return bool(self.preset or self.anchor or self.probe)


@dataclass(frozen=True)
class Trial:
    """One trial of a run. What was not recorded is None or empty."""

    trial: int
    outcome: Outcome = Outcome.RUNNING
    reason: Text | None = None
    traceback: Text | None = None
    config: Config | None = None
    preset: Preset | None = None
    anchor: Text | None = None
    latency: Measurement | None = None
    predicted_ms: Number | None = None  # the prediction by which it was not measured
    score: Number | None = None
    score_sd: Number | None = None
    scores: tuple[Rung, ...] = ()
    parts: dict[Text, float] = field(default_factory=dict)
    curve: tuple[tuple[Count, Number], ...] = ()  # step and training loss
    params_m: Number | None = None
    gmacs: Number | None = None
    cost_s: dict[Text, Number] = field(default_factory=dict)
    worker: Text | None = None
    confirms: Count | None = None  # the trial that this one trains again, with `seed`
    trains: Count | None = None  # the trial whose configuration this one trains at full width
    full: Trained | None = None  # what that found
    seed: Count | None = None
    reused_from: Count | None = None  # the trial of the same configuration that had ended
    retried: Flag = False  # its worker died; another trial took its place
    score_origin: ScoreOrigin | None = None
    params: dict[str, Any] = field(default_factory=dict)  # Optuna's
    started: datetime.datetime | None = None
    finished: datetime.datetime | None = None
    # What nas.search.confirmed adds of other trials.
    confirmed: Confirmed | None = None
    posterior: Estimate | None = None  # of the score at the top rung
    trained: Trained | None = None  # what another trial found that trained this one's configuration at full width
    apart_sd: float | None = None  # of the posterior beside others, where they share a level that is in doubt
    z_score: float | None = None  # of the posterior mean among FastViT-Bench's configurations

    @property
    def config_key(self) -> str | None:
        return None if self.config is None else self.config.key()

    @property
    def architecture(self) -> FastViTConfig:
        """The configuration of a trial that has one."""
        assert self.config is not None, "a model of timm has none"
        return self.config

    @property
    def latency_ms(self) -> float | None:
        return self.predicted_ms if self.latency is None else self.latency.latency_ms

    @property
    def origin(self) -> Origin | None:
        if self.latency is None:
            return None if self.predicted_ms is None else Origin.PREDICTED
        return self.latency.origin

    def meets_budget(self, budget_ms: float) -> bool:
        """Whether its measured latency meets the budget, by the one rule of nas.runs.budget."""
        return (self.latency is not None and self.latency.origin == Origin.MEASURED
                and bool(meets_budget(self.latency.ci_high_ms, budget_ms)))

    @property
    def searched(self) -> bool:
        """Whether the search itself asked for it: no preset, no anchor, and not given up for a second try."""
        return not (self.preset or self.anchor or self.retried)

    @property
    def counted(self) -> bool:
        """Whether it counts against a limit on trials: what was only predicted cost nothing."""
        return self.searched and self.origin != Origin.PREDICTED

    @property
    def estimate(self) -> Estimate | None:
        """The score that is shown: the best known of confirmed, posterior and single run."""
        if self.confirmed is not None:
            return Estimate(self.confirmed.score, self.confirmed.score_sd, Source.CONFIRMED)
        if self.posterior is not None and self.outcome == Outcome.COMPLETE:
            return self.posterior
        return None if self.score is None else Estimate(self.score, self.score_sd, Source.RUN)

    @property
    def shown(self) -> Estimate | None:
        """What stands on a front: top-1 of the trained network where there is one, else the estimate."""
        if self.trained is not None:
            return Estimate(self.trained.top1, self.trained.sd, Source.FULL, UNIT)
        return self.estimate

    @property
    def words(self) -> str:
        return self.config.describe() if self.config is not None else (self.anchor or "")

    @property
    def _apart_sd(self) -> float | None:
        """Of the score that is shown, as far as it is the trial's own."""
        return self.apart_sd if self.estimate is not None and self.estimate.source == Source.POSTERIOR else None

    def row(self) -> dict[str, Any]:
        """The flat form: one row of a table, without curves and samples."""
        latency, shown = self.latency, self.estimate
        return {
            "trial": self.trial, "outcome": self.outcome.value, "preset": self.preset, "anchor": self.anchor,
            "latency_ms": self.latency_ms, "ci_low_ms": latency and latency.ci_low_ms,
            "ci_high_ms": latency and latency.ci_high_ms, "origin": self.origin and self.origin.value,
            "score": shown and shown.value, "score_sd": shown and shown.sd,
            "score_from": shown and shown.source.value, "score_run": self.score,
            "standing": self.z_score, "apart_sd": self._apart_sd, **self.trained_row(), "params_m": self.params_m,
            "gmacs": self.gmacs,
            "words": self.words, "reason": self.reason, "config_key": self.config_key,
            "confirmed": self.confirmed is not None, "steps": self.scores[-1].step if self.scores else None,
            "latency_s": self.cost_s.get("latency"), "proxy_s": self.cost_s.get("proxy"), "worker": self.worker,
            "started": self.started, "finished": self.finished,
            "config": self.config.to_json() if self.config is not None else None,
        }

    def trained_row(self) -> dict[str, Any]:
        """What full-width training found, flat."""
        if (found := self.trained) is None:
            return dict.fromkeys(("top1", "top1_low", "top1_high", "held_out_images", "trained_images"))
        low, high = found.interval()
        return {"top1": found.top1, "top1_low": low, "top1_high": high, "held_out_images": found.images,
                "trained_images": found.trained_images}

    def point(self) -> dict[str, Any]:
        """The contract's point of a front: `score` is in `unit`, of a trained network its top-1; what was estimated
        before stays in `estimated_score`."""
        row, shown = self.row(), self.shown
        row |= {"estimated_score": row["score"], "trained": self.trained is not None,
                "score": shown and shown.value, "score_sd": shown and shown.sd, "unit": shown and shown.unit,
                "score_from": shown and shown.source.value}
        if self.trained is not None:
            row |= {"held_out": self.trained.held_out, "started_from": self.trained.started_from}
        keys = ("trial", "config_key", "latency_ms", "ci_low_ms", "ci_high_ms", "score", "score_sd", "score_from",
                "score_run", "params_m", "gmacs", "confirmed", "words", "unit", "estimated_score", "trained",
                "top1_low", "top1_high", "trained_images", "held_out_images", "held_out", "started_from")
        return {"config": None if self.config is None else self.config.to_dict()} | {key: row.get(key) for key in keys}

    def to_record(self) -> dict[str, Any]:
        """What its worker stores in the study: all that it found out, and nothing of the request."""
        found: dict[str, Any] = {
            "worker": self.worker, "seed": self.seed, "outcome": self.outcome.value, "reason": self.reason,
            "traceback": self.traceback, "latency": self.latency_json(), "score": self.score,
            "score_sd": self.score_sd, "scores": [asdict(rung) for rung in self.scores],
            "parts": {name: value for name, value in self.parts.items() if math.isfinite(value)},
            "curve": [list(point) for point in self.curve], "params_m": self.params_m, "gmacs": self.gmacs,
            "cost_s": self.cost_s, "reused_from": self.reused_from, "retried": self.retried,
            "full": self.full and self.full.to_dict(), "score_origin": self.score_origin and self.score_origin.value}
        if self.config is not None:
            found |= {"config": self.config.to_dict(), "config_key": self.config_key}
        return {key: value for key, value in found.items() if value is not None and value != [] and value != {}}

    def latency_json(self) -> dict[str, Any] | None:
        if self.latency is not None:
            return self.latency.to_dict()
        return None if self.predicted_ms is None else {"origin": Origin.PREDICTED.value,
                                                       "latency_ms": self.predicted_ms}


def to_trial(found: optuna.trial.FrozenTrial) -> Trial:
    """A trial of a study as it was recorded. One that no search can have written is a failed trial that says so."""
    times = found.datetime_start, found.datetime_complete
    try:
        trial = from_attrs(found.number, found.user_attrs)
    except ValueError as error:
        trial = Trial(found.number, Outcome.FAILED, UNREADABLE, traceback=str(error)[:400])
    if found.state.name == "FAIL" and trial.outcome == Outcome.RUNNING:
        trial = replace(trial, outcome=Outcome.FAILED, reason=trial.reason or "the worker died")
    return replace(trial, params=dict(found.params), started=times[0], finished=times[1])


def from_attrs(number: int, attrs: Mapping[str, Any]) -> Trial:
    """A trial from the attributes that a study keeps of it: what was asked for, and its worker's record.

    Raises:
        ValueError: a value is not what it should be.
    """
    try:
        values = {key: value for key, value in ({**attrs, **_record(attrs)}).items() if key not in _ADDED}
        latency = _latency(values.pop("latency", None))
        return read(Trial, values | latency | {"trial": number})
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no trial: {error}") from None


def _record(attrs: Mapping[str, Any]) -> dict[str, Any]:
    record = attrs.get("record", {})
    if not isinstance(record, dict):
        raise ValueError(f"record: expected an object, found {repr(record)[:60]}")
    return record


def _latency(values: Any) -> dict[str, Any]:
    """The two fields that a recorded latency becomes."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"latency: expected an object, found {repr(values)[:60]}")
    if values.get("origin") == Origin.PREDICTED and "ci_low_ms" not in values:
        return {"predicted_ms": values.get("latency_ms")}
    # Runs of former versions left out what was the same in the whole run.
    return {"latency": {"name": "", "config_key": "", "device": "", "resolution": 0} | values}


def with_rung(trial: Trial, rung: Rung) -> Trial:
    """The trial with one more rung, which takes the place of an earlier one of the same step."""
    kept = {one.step: one for one in trial.scores} | {rung.step: rung}
    return replace(trial, scores=tuple(kept[step] for step in sorted(kept)))


def json_column(trial: Trial, name: str) -> str:
    """A field that a table keeps as JSON."""
    value: Any = trial.latency_json() if name == "latency" else getattr(trial, name)
    return json.dumps([asdict(rung) for rung in value] if name == "scores" else value)
