"""A run on disk: what is in its folder, and how it is read back. Needs neither torch nor a live search.

    run.json      what was asked for, on what, with which versions (schema below)
    journal.log   Optuna's journal: every trial, the single source of truth while a run is on this machine
    front.csv     the front as it was last reported, and front.html its picture
    workers/      one lock file for each live worker, its log, and the checkpoints of trials
"""

from __future__ import annotations

import datetime
import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig
from nas.errors import UsageError
from nas.files import write_json
from nas.front import hypervolume, pareto

if TYPE_CHECKING:
    import optuna
    import pandas as pd

SCHEMA = 1
OUTCOMES = ("complete", "over_budget", "stopped_early", "failed", "running")


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


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
    confirmed: dict[str, Any] | None = None  # what nas.confirm.fold made of those trials
    posterior: tuple[float, float] | None = None  # mean and standard deviation at the top rung, by nas.surrogate
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
    def estimate(self) -> tuple[float | None, float | None, str | None]:
        """The score that is shown, its standard deviation, and where it is from: "confirmed" (the mean of several
        seeds), "posterior" (what all trials together say) or "run" (one training, sampling error only)."""
        if self.confirmed is not None:
            return self.confirmed["score"], self.confirmed["score_sd"], "confirmed"
        if self.posterior is not None and self.outcome == "complete":
            return *self.posterior, "posterior"
        return self.score, self.score_sd, None if self.score is None else "run"

    @property
    def words(self) -> str:
        return FastViTConfig.from_dict(self.config).describe() if self.config else (self.anchor or "")

    def row(self) -> dict[str, Any]:
        """The flat form: one row of a table, without curves and samples."""
        latency = self.latency or {}
        score, score_sd, score_from = self.estimate
        return {
            "trial": self.trial, "outcome": self.outcome, "preset": self.preset, "anchor": self.anchor,
            "latency_ms": latency.get("latency_ms"), "ci_low_ms": latency.get("ci_low_ms"),
            "ci_high_ms": latency.get("ci_high_ms"), "origin": latency.get("origin"),
            "score": score, "score_sd": score_sd, "score_from": score_from, "score_run": self.score,
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


def _record(trial: optuna.trial.FrozenTrial) -> TrialRecord:
    values = trial.user_attrs | trial.user_attrs.get("record", {})
    known = {key: values[key] for key in TrialRecord.__dataclass_fields__ if key in values}
    known.pop("trial", None)
    if trial.state.name == "FAIL" and known.get("outcome") is None:
        known |= {"outcome": "failed", "reason": values.get("reason", "the worker died")}
    known.setdefault("outcome", "running")
    return TrialRecord(**known | {"trial": trial.number, "params": dict(trial.params),
                                  "started": trial.datetime_start, "finished": trial.datetime_complete})


class Run:
    """A run's folder. Reading never changes it."""

    def __init__(self, path: Path, meta: dict[str, Any], url: str | None = None) -> None:
        self.path, self.meta, self.url = path, meta, url

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any]) -> Run:
        """Make the folder and its run.json.

        Raises:
            UsageError: the folder exists, or cannot be made.
        """
        if (path / "run.json").exists():
            raise UsageError(f"{path} holds a run already; resume it (`search.py resume {path}`) or name another --run")
        if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
            raise UsageError(f"{path} exists and is no run; name a new folder with --run")
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "workers").mkdir(exist_ok=True)
            run = cls(path, {"schema": SCHEMA, "id": path.name, "created": now(), "state": "running"} | meta)
            run.save()
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}; name another folder with --run") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a run's folder.

        Raises:
            UsageError: no run there, or one that this version cannot read.
        """
        path = Path(path)
        try:
            meta = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(f"{path} is no run: it has no run.json; give the folder that `search.py` named") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise UsageError(f"{path / 'run.json'} is damaged: it is not valid JSON") from None
        if not isinstance(meta, dict) or not isinstance(meta.get("schema"), int):
            raise UsageError(f"{path / 'run.json'} has no schema number; it was not written by this program")
        if meta["schema"] > SCHEMA:
            raise UsageError(f"{path} has schema {meta['schema']}, this version reads up to {SCHEMA}; "
                             "open it with a newer version")
        return cls(path, meta)

    def save(self) -> None:
        write_json(self.path / "run.json", self.meta)

    def update(self, **changes: Any) -> None:
        self.meta |= changes
        self.save()

    def refresh(self) -> dict[str, Any]:
        """Read again what the launcher changes while the run goes on."""
        self.meta = Run.open(self.path).meta
        return self.meta

    def tell_to_stop(self, stop: bool = True) -> None:
        """Ask every worker to end after its current trial, or take that back."""
        if stop:
            (self.path / "stop").touch()
        else:
            (self.path / "stop").unlink(missing_ok=True)

    def told_to_stop(self) -> bool:
        return (self.path / "stop").exists()

    @property
    def shared(self) -> bool:
        """Whether other machines reach the trials too."""
        return self.meta.get("storage", "journal") != "journal"

    def attrs(self) -> dict[str, Any]:
        """The study's own attributes: what is known of the run as a whole."""
        found: dict[str, Any] = self.storage.get_study_user_attrs(self.study._study_id)
        return found

    def set_attr(self, key: str, value: Any) -> None:
        self.storage.set_study_user_attr(self.study._study_id, key, value)

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @cached_property
    def storage(self) -> optuna.storages.BaseStorage:
        """Optuna's storage of this run; reading it again only reads what was appended.

        Raises:
            UsageError: the journal is damaged.
        """
        from nas.storage import open_journal

        try:
            return open_journal(self.journal)
        except (ValueError, KeyError):
            raise UsageError(self._damaged()) from None

    def _damaged(self) -> str:
        return (f"{self.journal} is damaged at line {self._bad_line()}; `search.py resume {self.path}` "
                "cuts a damaged last line off and goes on")

    def _bad_line(self) -> int:
        lines = self.journal.read_bytes().split(b"\n")
        return next((i for i, line in enumerate(lines, 1) if line and not _is_json(line)), len(lines))

    def repair(self) -> str | None:
        """Cut off a last line that a crash left half-written, keeping it beside the journal; says so.

        Raises:
            UsageError: the damage is not in the last line.
        """
        if not self.journal.exists():
            return None
        data = self.journal.read_bytes()
        cut = len(data) if data.endswith(b"\n") or not data else data.rfind(b"\n") + 1
        body = data[:cut]
        last = body.rstrip(b"\n").rfind(b"\n") + 1
        if body[last:].strip() and not _is_json(body[last:]):
            cut = last
        if any(line and not _is_json(line) for line in data[:cut].split(b"\n")):
            raise UsageError(f"{self.journal} is damaged at line {self._bad_line()}, which is not its last; "
                             "restore the file from a copy")
        if cut == len(data):
            return None
        with open(self.path / "journal.damaged", "ab") as kept:
            kept.write(data[cut:])
        # Not replaced: a worker that is still at its last trial has the file open, and locks this very file.
        os.truncate(self.journal, cut)
        return f"cut {len(data) - cut} bytes of a half-written last line off {self.journal} (kept in journal.damaged)"

    @cached_property
    def study(self) -> optuna.Study:
        """The run's study, without a sampler of its own."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return optuna.load_study(study_name=self.meta["id"], storage=self.storage)
        except KeyError:
            raise UsageError(f"{self.path} holds no trials yet; go on with `search.py resume {self.path}`") from None

    def records(self) -> list[TrialRecord]:
        """Every trial so far, in order; trials that confirm another are folded into that one.

        Raises:
            UsageError: the journal is damaged.
        """
        from nas.confirm import fold

        every = self.all_records()
        return fold(every, self.study.user_attrs) if every else []

    def all_records(self) -> list[TrialRecord]:
        """Every trial so far, in order, those that confirm another one among them.

        Raises:
            UsageError: the journal is damaged.
        """
        if not self.journal.exists():
            return []
        try:
            trials = self.study.get_trials(deepcopy=False)
        except (ValueError, KeyError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(self._damaged()) from None
        return [_record(trial) for trial in trials if trial.state.name != "WAITING"]

    def frame(self) -> pd.DataFrame:
        """One row a trial: the columns of TrialRecord.row()."""
        import pandas as pd

        rows = [record.row() for record in self.records()]
        return pd.DataFrame(rows, columns=list(TrialRecord(trial=0).row()))

    def status(self) -> dict[str, Any]:
        """The contract's status document."""
        counts = Counter(record.outcome for record in self.records())
        return {"run": str(self.path), "state": self.state(),
                "trials": {outcome: counts.get(outcome, 0) for outcome in OUTCOMES},
                "elapsed_s": self.meta.get("elapsed_s", 0.0)}

    def state(self) -> str:
        """As run.json says, except that a running search whose processes are gone was interrupted."""
        state = str(self.meta.get("state", "interrupted"))
        if state == "running" and not _alive(self.meta):
            return "interrupted"
        return state

    def front(self, budget_ms: float | None = None) -> dict[str, Any]:
        """The contract's front document: complete trials under the budget that none dominates, and the anchors."""
        from nas.confirm import eligible

        budget = budget_ms or self.meta["budget_ms"]
        records = self.records()
        under = [r for r in records if eligible(r, budget)]
        # Once points are confirmed, they are the front; a single lucky run beside them is no news.
        if any(r.confirmed is not None and not r.preset for r in under):
            under = [r for r in under if r.confirmed is not None]
        ms, score = [r.latency_ms or math.inf for r in under], [r.estimate[0] or 0.0 for r in under]
        anchors = {r.preset or r.anchor: r for r in records if (r.preset or r.anchor) and r.latency is not None}
        return {
            "run": str(self.path), "device": self.meta["device"], "origin": self.meta.get("origin", "measured"),
            "resolution": self.meta["resolution"], "budget_ms": budget, "task": self.meta["task"],
            "budgets": [b for b in self.meta.get("budgets") or [budget] if b <= budget],
            "hypervolume": hypervolume(ms, score, budget_ms=budget, score_floor=self.meta.get("score_floor", 0.0)),
            "points": [under[i].point() | {"preset": under[i].preset} for i in pareto(ms, score)],
            "anchors": [r.point() | {"preset": name} for name, r in anchors.items()],
        }


def launcher() -> dict[str, Any]:
    """This process as run.json names it. Its start is told too: after a reboot another process has its number."""
    import socket

    import psutil

    return {"launcher_pid": os.getpid(), "launcher_host": socket.gethostname(),
            "launcher_started": psutil.Process().create_time()}


def _alive(meta: dict[str, Any]) -> bool:
    import socket

    import psutil

    pid, started = meta.get("launcher_pid"), meta.get("launcher_started")
    if not isinstance(pid, int) or meta.get("launcher_host", socket.gethostname()) != socket.gethostname():
        return False
    try:
        return started is None or abs(psutil.Process(pid).create_time() - started) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


