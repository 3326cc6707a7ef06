"""Reads of runs, cached: a journal is parsed once and then only where it grew."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.errors import Failure, UsageError
from nas.runs.marks import Mark, read_marks
from nas.runs.run import OUTCOMES, Run, TrialRecord
from nas.runs.whole import missing
from nas.search.confirmation import POSTERIOR_ATTR
from space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd


# What only one trial's own page shows: nine tenths of a journal's bytes. Quotes inside a string are escaped, so no
# text of a run can look like these keys.
_BULK = re.compile(rb'"samples":\{[^{}]*\}|"curve":\[[][0-9eE.,+\-nul NaIfity]*\]')
_SET_ATTR = b'{"op_code":8,'
_EMPTY = {b"s": b'"samples":{}', b"c": b'"curve":[]'}


class AppendedOnly(BaseJournalBackend):
    """A journal that is only read, and never twice.

    Lines that set a single parameter are nine in ten and say nothing that the trial's recorded configuration does
    not; raw samples and loss curves stay in the file until their trial is looked at (`place`). Without both, 10,000
    trials are read in about a second.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.count = path, 0, 0
        self.place: dict[int, tuple[int, int]] = {}  # trial -> where its latest record stands

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        if log_number_from != self.count:  # pragma: no cover (Optuna reads on from where it stopped)
            raise ValueError(f"asked for log {log_number_from}, expected {self.count}")
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                begun, self.offset = self.offset, self.offset + len(line)
                if line.startswith(b'{"op_code":5,'):
                    continue
                self.count += 1
                if line.startswith(_SET_ATTR) and len(line) > 1000:
                    log = json.loads(_BULK.sub(lambda found: _EMPTY[found[0][1:2]], line))
                    if "record" in log["user_attr"]:
                        self.place[log["trial_id"]] = begun, len(line)
                else:
                    log = json.loads(line)
                yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("the dashboard reads runs; it writes through Run.open(path).study")


@dataclass(frozen=True)
class Waiting:
    """A trial in a run's queue: nobody has taken it yet."""

    trial: int
    words: str  # the configuration
    why: str  # a preset's name, who sent it, or what it confirms


def waiting(run: Run) -> list[Waiting]:
    """The queue of a run, in the order in which workers take it."""
    from optuna.trial import TrialState

    space = SearchSpace.from_toml(run.meta["space"]["toml"])
    found = []
    for trial in run.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        attrs, params = trial.user_attrs, trial.system_attrs.get("fixed_params") or {}
        try:
            config = FastViTConfig.from_dict(attrs["config"]) if "config" in attrs else space.decode(params)
            words = config.describe()
        except (ValueError, KeyError, TypeError, AttributeError):
            words = str(attrs.get("anchor") or "")
        why = (f"confirms trial {attrs['confirms']}, seed {attrs.get('seed')}" if "confirms" in attrs else
               f"sent from the {attrs['sent_by']}" if "sent_by" in attrs else
               f"preset {str(attrs['preset']).upper()}" if "preset" in attrs else "anchor" if "anchor" in attrs else
               "tried again" if "retry_of" in attrs else "proposed")
        found.append(Waiting(trial.number, words, why))
    return found


@dataclass
class Snapshot:
    """A run as it stood when its journal had `size` bytes."""

    name: str
    path: Path
    meta: dict[str, Any]
    state: str
    size: int
    records: list[TrialRecord]
    frame: pd.DataFrame
    place: dict[int, tuple[int, int]] = field(default_factory=dict)
    missing: str | None = None  # what is lost of its journal, in a sentence
    queue: list[Waiting] = field(default_factory=list)
    marks: dict[int, Mark] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)  # what the search left of its posterior

    def whole(self, record: TrialRecord) -> TrialRecord:
        """The record with what `AppendedOnly` left in the file: its latency samples and its loss curve."""
        if record.trial not in self.place:
            return record
        offset, length = self.place[record.trial]
        with (self.path / "journal.log").open("rb") as file:
            file.seek(offset)
            try:
                found = json.loads(file.read(length))["user_attr"]["record"]
            except (ValueError, KeyError, TypeError):
                return record  # the journal was replaced meanwhile
        if found.get("config_key") != record.config_key:
            return record
        latency = record.latency if record.confirmed else found.get("latency")  # confirmed: measured once more
        return replace(record, latency=latency, curve=found.get("curve", []))

    @cached_property
    def by_trial(self) -> dict[int, TrialRecord]:
        return {record.trial: record for record in self.records}

    @property
    def budgets(self) -> list[float]:
        """The budgets that the run serves, in ascending order; the largest is its `budget_ms`."""
        return sorted({float(budget) for budget in self.meta.get("budgets") or [self.meta["budget_ms"]]
                       if isinstance(budget, (int, float))})

    @property
    def version(self) -> str:
        """Changes whenever anything shown of the run may have changed."""
        return f"{self.name}/{self.size}/{self.state}/{self.meta.get('budget_ms')}"


@dataclass
class Reader:
    """One run's open journal and what was made of it so far."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    run: Run | None = None
    journal: AppendedOnly | None = None
    inode: int = 0
    last: Snapshot | None = None
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    stages: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def read(self) -> Snapshot:
        """The run now.

        Raises:
            UsageError: run.json or the journal cannot be read.
        """
        with self.lock:
            fresh = Run.open(self.path)
            try:
                if fresh.shared:
                    size, inode = _progress(self.run or fresh), 0
                else:
                    stat = fresh.journal.stat()
                    size, inode = stat.st_size, stat.st_ino
            except FileNotFoundError:
                size = inode = 0
            if self.run is None or inode != self.inode or (self.last and size < self.last.size):
                # A journal that was replaced or cut (resume repairs a damaged last line) is read anew.
                self.run, self.inode, self.last, self.rows, self.stages = fresh, inode, None, {}, {}
            self.run.meta = fresh.meta
            state = fresh.state()
            if self.last and self.last.size == size:
                self.last.meta, self.last.state = fresh.meta, state
                self.last.missing = self._missing(fresh, state)
                return self.last
            with _kept(size - (self.last.size if self.last else 0)):
                if self.last is None:
                    self.journal = AppendedOnly(fresh.journal) if size and not fresh.shared else None
                    if self.journal:
                        self.run.storage = _storage(fresh, self.journal)
                records = self.run.records() if size else []
                frame = self._frame(records)
            place = self.journal.place if self.journal else {}
            self.last = Snapshot(self.path.name, self.path, fresh.meta, state, size, records, frame, place)
            self.last.missing = self._missing(fresh, state)
            if size:
                attrs = self.run.attrs()
                self.last.queue, self.last.marks = waiting(self.run), read_marks(attrs)
                self.last.kept = attrs.get(POSTERIOR_ATTR) or {}
            return self.last

    def _missing(self, run: Run, state: str) -> str | None:
        if state == "running" or run.shared:
            return None
        every = self.run.all_records() if self.run and self.journal else []
        return missing(run.meta, state, run.journal, len(every), sum(r.outcome == "running" for r in every))

    def _frame(self, records: list[TrialRecord]) -> pd.DataFrame:
        """The records as rows; those that are none that a search could have written are replaced in place."""
        import pandas as pd

        for index, record in enumerate(records):
            # A trial changes while it runs, and once more when it is confirmed or its posterior moves.
            stage = record.outcome, record.posterior, record.confirmed is not None
            if self.stages.get(record.trial) != stage or record.outcome == "running":
                self.stages[record.trial] = stage
                self.rows[record.trial] = _row(record)
            if self.rows[record.trial]["reason"] == UNREADABLE:
                records[index] = _unreadable(record)
        rows = [self.rows[record.trial] for record in records]
        frame = pd.DataFrame(rows, columns=list(TrialRecord(trial=0).row()))
        frame.insert(0, "run", self.path.name)
        return frame


@contextlib.contextmanager
def _kept(size: int) -> Iterator[None]:
    """What is read from very many bytes of a journal is left out of garbage collections: it lives as long as the
    server, and Streamlit collects after each run of a page, which takes 0.3 s where 10,000 trials are looked at."""
    if size < 1e6:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


UNREADABLE = "what was recorded of this trial cannot be read"


def _unreadable(record: TrialRecord) -> TrialRecord:
    return TrialRecord(trial=record.trial, outcome="failed", reason=UNREADABLE, started=record.started,
                       finished=record.finished)


def _row(record: TrialRecord) -> dict[str, Any]:
    """The record as a row, or a failed trial in its place where it is none that a search could have written."""
    latency = record.latency or {}
    try:
        numbers = (*(latency.get(key) for key in ("latency_ms", "ci_low_ms", "ci_high_ms")), record.score,
                   record.score_sd, record.params_m, record.gmacs)
        texts = (record.outcome, record.reason, record.preset, record.anchor, latency.get("origin"), record.traceback)
        if (all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in numbers)
                and all(text is None or isinstance(text, str) for text in texts)
                and record.outcome in OUTCOMES and (record.preset is None or record.preset in PRESETS)
                and (latency.get("origin") != "measured" or None not in numbers[:3])):
            return record.row()  # reads the configuration, too
    except (ValueError, TypeError, AttributeError, KeyError):
        pass
    return _unreadable(record).row()


def _progress(run: Run) -> int:
    """What stands for the journal's size where the trials are in a storage that machines share: it only grows.

    Raises:
        UsageError: the storage was not named (FASTVIT_EXPLORER_STORAGE), or does not answer.
    """
    try:
        return sum(2 + len(r.scores) - (r.outcome == "running") for r in run.all_records())
    except Failure as error:
        raise UsageError(str(error)) from None


def _storage(run: Run, journal: AppendedOnly) -> JournalStorage:
    try:
        return JournalStorage(journal)
    except (ValueError, KeyError):
        raise UsageError(f"{run.journal} is damaged; `search.py resume {run.path}` says where, and repairs a "
                         "half-written end") from None


@lru_cache(maxsize=32)
def reader(path: Path) -> Reader:
    return Reader(path)


def snapshot(path: Path) -> Snapshot:
    """The run in `path` now; cheap when nothing was appended.

    Raises:
        UsageError: it cannot be read.
    """
    return reader(path).read()
