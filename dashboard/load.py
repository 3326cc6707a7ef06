"""Reads of runs, cached: a journal is parsed once and then only where it grew."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.run import OUTCOMES, Run, TrialRecord

if TYPE_CHECKING:
    import pandas as pd


class AppendedOnly(BaseJournalBackend):
    """A journal that is only read, and never twice.

    Lines that set a single parameter are nine in ten of a journal and say nothing that the trial's recorded
    configuration does not; leaving them out makes 10,000 trials readable in about a second.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.count = path, 0, 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        import json

        if log_number_from != self.count:  # pragma: no cover (Optuna reads on from where it stopped)
            raise ValueError(f"asked for log {log_number_from}, expected {self.count}")
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                self.offset += len(line)
                if line.startswith(b'{"op_code":5,'):
                    continue
                self.count += 1
                yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("the dashboard reads runs; it writes through Run.open(path).study")


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
    inode: int = 0
    last: Snapshot | None = None
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    stages: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def read(self) -> Snapshot:
        """The run now.

        Raises:
            UsageError: run.json or the journal cannot be read.
        """
        import pandas as pd

        with self.lock:
            fresh = Run.open(self.path)
            try:
                stat = fresh.journal.stat()
                size, inode = stat.st_size, stat.st_ino
            except FileNotFoundError:
                size = inode = 0
            if self.run is None or inode != self.inode or (self.last and size < self.last.size):
                # A journal that was replaced or cut (resume repairs a damaged last line) is read anew.
                self.run, self.inode, self.last, self.rows, self.stages = fresh, inode, None, {}, {}
                if size:
                    self.run.storage = _storage(fresh)
            self.run.meta = fresh.meta
            state = fresh.state()
            if self.last and self.last.size == size:
                self.last.meta, self.last.state = fresh.meta, state
                return self.last
            records = [_sound(record) for record in (self.run.records() if size else [])]
            for record in records:
                # A trial changes while it runs, and once more when it is confirmed or its posterior moves.
                stage = record.outcome, record.posterior, record.confirmed is not None
                if self.stages.get(record.trial) != stage or record.outcome == "running":
                    self.stages[record.trial] = stage
                    self.rows[record.trial] = record.row()
            rows = [self.rows[record.trial] for record in records]
            frame = pd.DataFrame(rows, columns=list(TrialRecord(trial=0).row()))
            frame.insert(0, "run", self.path.name)
            self.last = Snapshot(self.path.name, self.path, fresh.meta, state, size, records, frame)
            return self.last


def _sound(record: TrialRecord) -> TrialRecord:
    """The record, or in its place a failed one where it is none that a search could have written."""
    latency = record.latency or {}
    numbers = (*(latency.get(key) for key in ("latency_ms", "ci_low_ms", "ci_high_ms")), record.score, record.score_sd,
               record.params_m, record.gmacs)
    texts = (record.outcome, record.reason, record.preset, record.anchor, latency.get("origin"), record.traceback)
    sound = (all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
                 for value in numbers) and all(text is None or isinstance(text, str) for text in texts)
             and record.outcome in OUTCOMES and (record.preset is None or record.preset in PRESETS)
             and (latency.get("origin") != "measured" or None not in numbers[:3]))
    try:
        if sound and (record.config is None or FastViTConfig.from_dict(record.config)):
            return record
    except (ValueError, TypeError):
        pass
    return TrialRecord(trial=record.trial, outcome="failed", reason="what was recorded of this trial cannot be read",
                       started=record.started, finished=record.finished)


def _storage(run: Run) -> JournalStorage:
    try:
        return JournalStorage(AppendedOnly(run.journal))
    except (ValueError, KeyError):
        raise UsageError(f"{run.journal} is damaged; `search.py resume {run.path}` says where, and repairs a "
                         "half-written end") from None


@st.cache_resource(show_spinner=False, max_entries=32)
def reader(path: Path) -> Reader:
    return Reader(path)


def snapshot(path: Path) -> Snapshot:
    """The run in `path` now; cheap when nothing was appended.

    Raises:
        UsageError: it cannot be read.
    """
    return reader(path).read()
