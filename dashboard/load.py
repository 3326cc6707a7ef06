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
from nas.errors import Failure, UsageError
from nas.runs.folder import lines, open_file
from nas.runs.marks import Mark, read_marks
from nas.runs.run import DAMAGED, Outcome, Run, RunMeta, RunProgress, RunState, Trial
from nas.runs.trial import from_attrs
from nas.runs.whole import missing
from nas.search.confirmed import POSTERIOR_ATTR, search_trials
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
        with open_file(self.path) as file:
            file.seek(self.offset)
            for line in lines(file):
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


PROXY_SCORE = "proxy score"


@dataclass(frozen=True)
class Waiting:
    """A trial in a run's queue: nobody has taken it yet."""

    trial: int
    words: str  # the configuration
    why: str  # a preset's name, who sent it, or what it confirms


def waiting(run: Run) -> list[Waiting]:
    """The queue of a run, in the order in which workers take it."""
    from optuna.trial import TrialState

    try:
        space = SearchSpace.from_toml(run.meta.space.toml)
    except ValueError as error:
        raise UsageError(f"{run.path / 'run.json'} is damaged: its space: {error}") from None
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
    meta: RunMeta
    progress: RunProgress
    state: RunState
    size: int
    records: list[Trial]
    frame: pd.DataFrame
    place: dict[int, tuple[int, int]] = field(default_factory=dict)
    missing: str | None = None  # what is lost of its journal, in a sentence
    queue: list[Waiting] = field(default_factory=list)
    marks: dict[int, Mark] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)  # what the search left of its posterior

    def whole(self, record: Trial) -> Trial:
        """The record with what `AppendedOnly` left in the file: its latency samples and its loss curve."""
        if record.trial not in self.place:
            return record
        offset, length = self.place[record.trial]
        with open_file(self.path / "journal.log") as file:
            file.seek(offset)
            try:
                whole = from_attrs(record.trial, json.loads(file.read(length))["user_attr"])
            except (ValueError, KeyError, TypeError, RecursionError):
                return record  # the journal was replaced meanwhile
        if whole.config_key != record.config_key:
            return record
        latency = record.latency if record.confirmed else whole.latency  # confirmed: measured once more
        return replace(record, latency=latency or record.latency, curve=whole.curve)

    @property
    def unit(self) -> str:
        """What the scores are, in words: on photographs the search estimates whole networks."""
        if self.trained:
            return "top-1 on held-out images"
        return "estimated top-1" if self.kept.get("unit") else PROXY_SCORE

    @property
    def trained(self) -> bool:
        """Whether networks were trained at full width: their top-1 is what the front then stands on."""
        return any(record.trained is not None for record in self.records)

    @property
    def shown(self) -> pd.DataFrame:
        """The trials with the score that a front stands on: of trained networks alone, once there are any."""
        if not self.trained:
            return self.frame
        sd = (self.frame.trained_high.astype(float) - self.frame.trained_low.astype(float)) / 3.92
        return self.frame.assign(score=self.frame.trained_top1.astype(float), score_sd=sd, apart_sd=None,
                                 score_from="trained")

    @cached_property
    def by_trial(self) -> dict[int, Trial]:
        return {record.trial: record for record in self.records}

    @property
    def budgets(self) -> list[float]:
        """The budgets that the run serves, in ascending order; the largest is its `budget_ms`."""
        return sorted(set(self.meta.budgets))

    @property
    def version(self) -> str:
        """Changes whenever anything shown of the run may have changed."""
        return f"{self.name}/{self.size}/{self.state}/{self.meta.budget_ms}"


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
                if fresh.meta.shared:
                    size, inode = _progress(self.run or fresh), 0
                else:
                    stat = fresh.journal.stat()
                    size, inode = stat.st_size, stat.st_ino
            except FileNotFoundError:
                size = inode = 0
            if self.run is None or inode != self.inode or (self.last and size < self.last.size):
                # A journal that was replaced or cut (resume repairs a damaged last line) is read anew.
                self.run, self.inode, self.last, self.rows, self.stages = fresh, inode, None, {}, {}
            self.run.meta, self.run.progress = fresh.meta, fresh.progress
            state = fresh.state()
            if self.last and self.last.size == size:
                self.last.meta, self.last.progress, self.last.state = fresh.meta, fresh.progress, state
                self.last.missing = self._missing(fresh, state)
                return self.last
            with _kept(size - (self.last.size if self.last else 0)):
                if self.last is None:
                    self.journal = AppendedOnly(fresh.journal) if size and not fresh.meta.shared else None
                    if self.journal:
                        self.run.storage = _storage(fresh, self.journal)
                records = search_trials(self.run) if size else []
                frame = self._frame(records)
            place = self.journal.place if self.journal else {}
            self.last = Snapshot(self.path.name, self.path, fresh.meta, fresh.progress, state, size, records, frame,
                                 place)
            self.last.missing = self._missing(fresh, state)
            if size:
                attrs = self.run.attrs()
                self.last.queue, self.last.marks = waiting(self.run), read_marks(attrs)
                self.last.kept = attrs.get(POSTERIOR_ATTR) or {}
            return self.last

    def _missing(self, run: Run, state: RunState) -> str | None:
        if state == RunState.RUNNING or run.meta.shared:
            return None
        every = self.run.trials() if self.run and self.journal else []
        return missing(run, state, len(every), sum(t.outcome == Outcome.RUNNING for t in every))

    def _frame(self, records: list[Trial]) -> pd.DataFrame:
        """The trials as rows."""
        import pandas as pd

        for record in records:
            # A trial changes while it runs, and once more when it is confirmed or its posterior moves.
            stage = record.outcome, record.posterior, record.confirmed is not None
            if self.stages.get(record.trial) != stage or record.outcome == Outcome.RUNNING:
                self.stages[record.trial] = stage
                self.rows[record.trial] = record.row()
        rows = [self.rows[record.trial] for record in records]
        frame = pd.DataFrame(rows, columns=list(Trial(trial=0).row()))
        # The page's own column top1 is another thing: ImageNet's, estimated from size.
        frame = frame.rename(columns={"top1": "trained_top1", "top1_low": "trained_low", "top1_high": "trained_high"})
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


def _progress(run: Run) -> int:
    """What stands for the journal's size where the trials are in a storage that machines share: it only grows.

    Raises:
        UsageError: the storage was not named (FASTVIT_EXPLORER_STORAGE), or does not answer.
    """
    try:
        return sum(2 + len(r.scores) - (r.outcome == "running") for r in run.trials())
    except Failure as error:
        raise UsageError(str(error)) from None


def _storage(run: Run, journal: AppendedOnly) -> JournalStorage:
    try:
        return JournalStorage(journal)
    except UsageError:
        raise
    except DAMAGED:
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
