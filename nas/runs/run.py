"""A run on disk: what is in its folder, and how it is read back. Needs neither torch nor a live search.

    run.json      what was asked for, on what, with which versions (schema below)
    journal.log   Optuna's journal: every trial, the single source of truth of a run on one machine
    front.csv     the front as it was last reported, and front.html its picture
    workers/      one lock file for each live worker, its log, and the checkpoints of trials

A run that several machines work on keeps its trials in a database instead of journal.log, and a copy of run.json
with them: the study's attribute "run" (docs/scale.md). All of it is data: nothing is executed or unpickled.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError
from nas.files import write_json
from nas.runs.trial import OUTCOMES, TrialRecord, to_record

if TYPE_CHECKING:
    import optuna
    import pandas as pd

__all__ = ["OUTCOMES", "SCHEMA", "Run", "TrialRecord", "launcher", "now", "readable"]

SCHEMA = 2
FRESH_S = 1.0  # what was read from a shared storage holds so long: a worker asks several times within a trial
SILENT_S = 120.0  # a launcher on another machine that wrote nothing for so long is gone
META, STOP = "run", "stop"  # attributes of a study in a shared storage


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Run:
    """A run's folder. Reading never changes it."""

    def __init__(self, path: Path, meta: dict[str, Any], url: str | None = None) -> None:
        self.path, self.meta, self.url = path, meta, url
        self._attrs: dict[str, Any] = {}
        self._attrs_read = -math.inf
        self._ended: dict[int, TrialRecord] = {}
        self._read: list[TrialRecord] = []
        self._read_at = -math.inf

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any], url: str | None = None) -> Run:
        """Make the folder and its run.json; `url` names the storage that other machines reach too.

        Raises:
            UsageError: the folder exists, or cannot be made.
        """
        if (path / "run.json").exists():
            raise UsageError(f"{path} holds a run already; resume it (`search.py resume {path}`) or name another --run")
        if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
            raise UsageError(f"{path} exists and is no run; name a new folder with --run")
        run = cls(path, {"schema": SCHEMA, "id": path.resolve().name, "created": now(), "state": "running",
                         "storage": "journal"} | meta, url)
        if url is not None:
            from nas.runs.storage import open_storage, without_secrets

            run.meta["storage"] = without_secrets(url)
            run.storage = open_storage(url)  # before there is a folder: it may not answer
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "workers").mkdir(exist_ok=True)
            run.save()
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}; name another folder with --run") from None
        return run

    @classmethod
    def open(cls, path: str | Path, url: str | None = None) -> Run:
        """Read a run's folder, or what a shared storage knows of the run of that name.

        Args:
            path: the folder; on a machine that never had it, the name it has elsewhere.
            url: of the storage; None: what FASTVIT_EXPLORER_STORAGE names. A journal needs none.

        Raises:
            UsageError: no run there, or one that this version cannot read.
        """
        path, given = Path(path), url
        url = url or os.environ.get("FASTVIT_EXPLORER_STORAGE") or None
        if url is not None and not (path / "run.json").exists():
            return cls(path, {"id": path.resolve().name, "storage": "shared"}, url)._found()
        try:
            meta = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(f"{path} is no run: it has no run.json; give the folder that `search.py` named, "
                             "or --storage when it is on another machine") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise UsageError(f"{path / 'run.json'} is damaged: it is not valid JSON") from None
        run = cls(path, readable(meta, path / "run.json"))
        if run.shared:
            run.url = url
        elif given is not None:
            raise UsageError(f"{path} keeps its trials in its folder; leave --storage out")
        return run

    def _found(self) -> Run:
        """This run as its storage knows it.

        Raises:
            UsageError: the storage has no such run.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.load_study(study_name=self.meta["id"], storage=self.storage)
            meta = self.attrs()[META]
        except KeyError:
            raise UsageError(f"{self.path} is no run: neither is it a folder here, nor does the storage know a run "
                             f"named {self.meta['id']}") from None
        self.meta = readable(meta, self.path)
        return self

    def create_study(self) -> optuna.Study:
        """The study that holds the run's trials; found when there is one in the run's own journal.

        Raises:
            UsageError: the shared storage has a run of that name already.
        """
        import optuna

        if not self.shared and any(study.study_name == self.meta["id"] for study in self.storage.get_all_studies()):
            return self.study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(study_name=self.meta["id"], storage=self.storage,
                                             directions=["minimize", "maximize"])
        except optuna.exceptions.DuplicatedStudyError:
            raise UsageError(f"the storage has a run named {self.meta['id']} already; name another --run") from None
        if self.shared:
            self.set_attr(META, self.meta)
        return self.study

    def save(self) -> None:
        write_json(self.path / "run.json", self.meta)

    def update(self, **changes: Any) -> None:
        self.meta |= changes | {"updated": time.time()}
        self.save()
        if self.shared:
            self.set_attr(META, self.meta)

    def refresh(self) -> dict[str, Any]:
        """Read again what the launcher changes while the run goes on."""
        self.meta = readable(self.attrs()[META], self.path) if self.shared else Run.open(self.path).meta
        return self.meta

    def tell_to_stop(self, stop: bool = True) -> None:
        """Ask every worker to end after its current trial, or take that back."""
        if self.shared:
            self.set_attr(STOP, stop)
        elif stop:
            (self.path / "stop").touch()
        else:
            (self.path / "stop").unlink(missing_ok=True)

    def told_to_stop(self) -> bool:
        return bool(self.attrs().get(STOP)) if self.shared else (self.path / "stop").exists()

    @property
    def shared(self) -> bool:
        """Whether other machines reach the trials too."""
        return self.meta.get("storage", "journal") != "journal"

    def attrs(self) -> dict[str, Any]:
        """The study's own attributes: what is known of the run as a whole."""
        if not self.shared or time.monotonic() - self._attrs_read > FRESH_S:
            self._attrs = self.storage.get_study_user_attrs(self.study._study_id)
            self._attrs_read = time.monotonic()
        return self._attrs

    def set_attr(self, key: str, value: Any) -> None:
        self.storage.set_study_user_attr(self.study._study_id, key, value)
        self._attrs_read = -math.inf

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @cached_property
    def storage(self) -> optuna.storages.BaseStorage:
        """Optuna's storage of this run; reading it again only reads what was appended.

        Raises:
            UsageError: the journal is damaged, or the storage's URL was not given.
            Failure: the storage does not answer.
        """
        from nas.runs.storage import ENVIRONMENT, open_journal, open_storage

        if self.shared:
            if self.url is None:
                raise UsageError(f"{self.path} keeps its trials in {self.meta['storage']}; name it with --storage "
                                 f"or {ENVIRONMENT}")
            return open_storage(self.url)
        try:
            return open_journal(self.journal)
        except (ValueError, KeyError):
            raise UsageError(self._damaged()) from None

    def _damaged(self) -> str:
        from nas.runs.journal import bad_line

        return (f"{self.journal} is damaged at line {bad_line(self.journal)}; `search.py resume {self.path}` "
                "cuts a damaged last line off and goes on")

    def repair(self) -> str | None:
        """Cut off a last line that a crash left half-written, keeping it beside the journal; says so.

        Raises:
            UsageError: the damage is not in the last line.
        """
        from nas.runs.journal import repair

        return None if self.shared or not self.journal.exists() else repair(self.journal)

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
        from nas.proxy import RECIPE
        from nas.search.confirmation import fold

        # What ships says nothing of the levels of another recipe's seeds.
        images = self.meta.get("task_fingerprint", "") if self.meta.get("recipe") == RECIPE else ""
        every = self.all_records()
        return fold(every, self.attrs(), images) if every else []

    def all_records(self) -> list[TrialRecord]:
        """Every trial so far, in order, those that confirm another one among them.

        Raises:
            UsageError: the journal is damaged.
        """
        if not self.shared and not self.journal.exists():
            return []
        if self.shared and time.monotonic() - self._read_at < FRESH_S:
            return list(self._read)
        try:
            trials = self.study.get_trials(deepcopy=False)
        except (ValueError, KeyError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(self._damaged()) from None
        found = []
        for trial in trials:
            record = self._ended.get(trial.number)
            if record is None and trial.state.name != "WAITING":
                record = to_record(trial)
                if trial.state.is_finished():  # what has ended does not change any more
                    self._ended[trial.number] = record
            if record is not None:
                found.append(record)
        self._read, self._read_at = found, time.monotonic()
        return list(found)

    def frame(self) -> pd.DataFrame:
        """One row a trial: the columns of TrialRecord.row()."""
        import pandas as pd

        rows = [record.row() for record in self.records()]
        return pd.DataFrame(rows, columns=list(TrialRecord(trial=0).row()))

    def status(self) -> dict[str, Any]:
        """The contract's status document."""
        counts = Counter(record.outcome for record in self.records())
        reasons = Counter(record.reason or "unknown" for record in self.all_records() if record.outcome == "failed")
        return {"run": str(self.path), "state": self.state(),
                "trials": {outcome: counts.get(outcome, 0) for outcome in OUTCOMES},
                "failures": dict(reasons.most_common()),
                "elapsed_s": self.meta.get("elapsed_s", 0.0)}

    def state(self) -> str:
        """As run.json says, except that a running search whose processes are gone was interrupted."""
        state = str(self.meta.get("state", "interrupted"))
        if state == "running" and not _alive(self.meta):
            return "interrupted"
        return state

    def front(self, budget_ms: float | None = None, meets: Callable[[TrialRecord], bool] = lambda record: True
              ) -> dict[str, Any]:
        """The contract's front document: complete trials under the budget that none dominates, and the anchors.

        Args:
            meets: what a point must meet besides the budget.
        """
        from nas.estimate.imagenet import estimated_top1
        from nas.estimate.long_run import estimated_long_run
        from nas.search.confirmation import fell_off, front_of, front_volume, movement

        budget = budget_ms or self.meta["budget_ms"]
        records = self.records()
        front = front_of([record for record in records if meets(record)], budget)
        anchors = {r.preset or r.anchor: r for r in records if (r.preset or r.anchor) and r.latency is not None}
        points = [r.point() | {"preset": r.preset} for r in front]
        shown = [r.point() | {"preset": name} for name, r in anchors.items()]
        ours = [(r, point) for r, point in zip([*front, *anchors.values()], [*points, *shown], strict=True) if r.config]
        if ours:
            configs = [r.architecture for r, _ in ours]
            long_runs = estimated_long_run(configs, [r.standing for r, _ in ours])
            for (_, point), top1, long_run in zip(ours, estimated_top1(configs), long_runs, strict=True):
                point["estimated_imagenet_top1"] = [round(value, 2) for value in top1]
                point["estimated_long_run"] = [round(value, 3) for value in long_run]
        return {
            "run": str(self.path), "device": self.meta["device"], "origin": self.meta.get("origin", "measured"),
            "resolution": self.meta["resolution"], "budget_ms": budget, "task": self.meta["task"],
            "budgets": [b for b in self.meta.get("budgets") or [budget] if b <= budget],
            "hypervolume": front_volume(front, budget),
            "points": points, "anchors": shown, "movement": movement(records, budget),
            "fell_off": [r.point() for r in fell_off(records, budget)],
        }


def launcher() -> dict[str, Any]:
    """This process as run.json names it. Its start is told too: after a reboot another process has its number."""
    import socket

    import psutil

    return {"launcher_pid": os.getpid(), "launcher_host": socket.gethostname(),
            "launcher_started": psutil.Process().create_time()}


def _alive(meta: dict[str, Any]) -> bool:
    """Whether the launcher lives: by its process on this machine, by what it last wrote on another one."""
    import socket

    import psutil

    pid, started = meta.get("launcher_pid"), meta.get("launcher_started")
    if not isinstance(pid, int):
        return False
    if meta.get("launcher_host", socket.gethostname()) != socket.gethostname():
        return time.time() - float(meta.get("updated") or 0) < SILENT_S
    try:
        return started is None or abs(psutil.Process(pid).create_time() - started) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _from_1(meta: dict[str, Any]) -> dict[str, Any]:
    """Before runs had several budgets and shared storages."""
    budget = meta.get("budget_ms")
    return {"budgets": [] if budget is None else [budget], "storage": "journal", "sampler": "surrogate"} | meta


_MIGRATIONS = {1: _from_1}  # from each schema to the next


def readable(meta: Any, where: Path) -> dict[str, Any]:
    """What a run was, in the present schema.

    Raises:
        UsageError: it is no run's, or a later version's.
    """
    if not isinstance(meta, dict) or not isinstance(meta.get("schema"), int):
        raise UsageError(f"{where} has no schema number; it was not written by this program")
    if meta["schema"] > SCHEMA:
        raise UsageError(f"{where} has schema {meta['schema']}, this version reads up to {SCHEMA}; "
                         "open it with a newer version")
    for schema in range(meta["schema"], SCHEMA):
        if schema not in _MIGRATIONS:
            raise UsageError(f"{where} has schema {schema}, this version reads {min(_MIGRATIONS)} to {SCHEMA}")
        meta = _MIGRATIONS[schema](meta) | {"schema": schema + 1}
    if missing := [key for key in ("id", "budget_ms", "device", "resolution", "task", "space") if key not in meta]:
        raise UsageError(f"{where} is damaged: it says nothing of {', '.join(missing)}")
    return meta
