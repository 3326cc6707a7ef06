"""A run on disk: what is in its folder, and how it is read back. Needs neither torch nor a live search.

    run.json      what was asked for, on what, with which versions (schema below)
    journal.log   Optuna's journal: every trial, the single source of truth of a run on one machine
    front.csv     the front as it was last reported, and front.html its picture
    workers/      one lock file for each live worker, its log, and the checkpoints of trials

A run that several machines work on keeps its trials in a database instead of journal.log, and a copy of run.json
with them: the study's attribute "run" (docs/scale.md). All of it is data: nothing is executed or unpickled.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.addresses import shown, storage_url
from nas.clock import now
from nas.errors import UsageError
from nas.files import write_json
from nas.runs.folder import open_file, read_file
from nas.runs.meta import ConfirmationState, RunMeta, RunProgress, RunState, changed, read_run, run_json
from nas.runs.trial import Outcome, Trial, to_trial

if TYPE_CHECKING:
    import optuna

__all__ = ["ConfirmationState", "Outcome", "Run", "RunMeta", "RunProgress", "RunState", "Trial", "launcher"]

FRESH_S = 1.0  # what was read from a shared storage holds so long: a worker asks several times within a trial
SILENT_S = 120.0  # a launcher on another machine that wrote nothing for so long is gone
META, STOP = "run", "stop"  # attributes of a study in a shared storage


# What Optuna raises where a journal's lines are JSON but not what it wrote.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


class Run:
    """A run's folder. Reading never changes it."""

    def __init__(self, path: Path, meta: RunMeta, progress: RunProgress, url: str | None = None) -> None:
        self.path, self.meta, self.progress, self.url = path, meta, progress, url
        self._attrs: dict[str, Any] = {}
        self._attrs_read = -math.inf
        self._ended: dict[int, Trial] = {}
        self._read: list[Trial] = []
        self._read_at = -math.inf

    @classmethod
    def create(cls, path: Path, meta: RunMeta, url: str | None = None) -> Run:
        """Make the folder and its run.json; `url` names the storage that other machines reach too.

        Raises:
            UsageError: the folder exists, or cannot be made.
        """
        if (path / "run.json").exists():
            raise UsageError(f"{path} holds a run already; resume it (`search.py resume {path}`) or name another --run")
        if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
            raise UsageError(f"{path} exists and is no run; name a new folder with --run")
        meta = replace(meta, id=path.resolve().name, created=now())
        if url is not None:
            meta = replace(meta, storage=shown(storage_url(url)))
        run = cls(path, meta, RunProgress(RunState.RUNNING), url)
        if url is not None:
            from nas.runs.storage import open_storage

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
            return cls._found(path, url)
        try:
            values = json.loads(read_file(path / "run.json"))
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(f"{path} is no run: it has no run.json; give the folder that `search.py` named, "
                             "or --storage when it is on another machine") from None
        except UsageError:
            raise
        except (ValueError, RecursionError):
            raise UsageError(f"{path / 'run.json'} is damaged: it is not valid JSON") from None
        run = cls(path, *read_run(values, path / "run.json"))
        if run.meta.shared:
            run.url = url
        elif given is not None:
            raise UsageError(f"{path} keeps its trials in its folder; leave --storage out")
        return run

    @classmethod
    def _found(cls, path: Path, url: str) -> Run:
        """A run that has no folder here, as its storage knows it.

        Raises:
            UsageError: the storage has no such run.
        """
        import optuna

        from nas.runs.storage import open_storage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        name, storage = path.resolve().name, open_storage(url)
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            values = study.user_attrs[META]
        except KeyError:
            raise UsageError(f"{path} is no run: neither is it a folder here, nor does the storage know a run "
                             f"named {name}") from None
        run = cls(path, *read_run(values, path), url)
        run.storage, run.study = storage, study
        return run

    def create_study(self) -> optuna.Study:
        """The study that holds the run's trials; found when there is one in the run's own journal.

        Raises:
            UsageError: the shared storage has a run of that name already.
        """
        import optuna

        if not self.meta.shared and any(study.study_name == self.meta.id for study in self.storage.get_all_studies()):
            return self.study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(study_name=self.meta.id, storage=self.storage,
                                             directions=["minimize", "maximize"])
        except optuna.exceptions.DuplicatedStudyError:
            raise UsageError(f"the storage has a run named {self.meta.id} already; name another --run") from None
        if self.meta.shared:
            self.set_attr(META, run_json(self.meta, self.progress))
        return self.study

    def save(self) -> None:
        write_json(self.path / "run.json", run_json(self.meta, self.progress))

    def update(self, **changes: Any) -> None:
        """Change what RunProgress holds, and tell everybody."""
        self.progress = changed(self.progress, changes | {"updated": time.time()})
        self.save()
        if self.meta.shared:
            self.set_attr(META, run_json(self.meta, self.progress))

    def refresh(self) -> RunProgress:
        """Read again what the launcher changes while the run goes on."""
        self.progress = (read_run(self.attrs()[META], self.path)[1] if self.meta.shared
                         else Run.open(self.path).progress)
        return self.progress

    def tell_to_stop(self, stop: bool = True) -> None:
        """Ask every worker to end after its current trial, or take that back."""
        if self.meta.shared:
            self.set_attr(STOP, stop)
        elif stop:
            open_file(self.path / "stop", "ab").close()
        else:
            (self.path / "stop").unlink(missing_ok=True)

    def told_to_stop(self) -> bool:
        return bool(self.attrs().get(STOP)) if self.meta.shared else (self.path / "stop").exists()

    def attrs(self) -> dict[str, Any]:
        """The study's own attributes: what is known of the run as a whole."""
        if not self.meta.shared or time.monotonic() - self._attrs_read > FRESH_S:
            from nas.runs.studies import study_attrs

            self._attrs = study_attrs(self.study, self.storage)
            self._attrs_read = time.monotonic()
        return self._attrs

    def set_attr(self, key: str, value: Any) -> None:
        from nas.runs.studies import set_study_attr

        set_study_attr(self.study, self.storage, key, value)
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

        if self.meta.shared:
            if self.url is None:
                raise UsageError(f"{self.path} keeps its trials in {self.meta.storage}; name it with --storage "
                                 f"or {ENVIRONMENT}")
            return open_storage(self.url)
        try:
            return open_journal(self.journal)
        except UsageError:
            raise
        except DAMAGED:
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

        return None if self.meta.shared or not self.journal.exists() else repair(self.journal)

    @cached_property
    def study(self) -> optuna.Study:
        """The run's study, without a sampler of its own."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return optuna.load_study(study_name=self.meta.id, storage=self.storage)
        except KeyError:
            raise UsageError(f"{self.path} holds no trials yet; go on with `search.py resume {self.path}`") from None

    def trials(self) -> list[Trial]:
        """Every trial so far, in order, those that confirm another one among them.

        Raises:
            UsageError: the journal is damaged.
        """
        if not self.meta.shared and not self.journal.exists():
            return []
        if self.meta.shared and time.monotonic() - self._read_at < FRESH_S:
            return list(self._read)
        try:
            trials = self.study.get_trials(deepcopy=False)
        except DAMAGED as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(self._damaged()) from None
        found = []
        for trial in trials:
            record = self._ended.get(trial.number)
            if record is None and trial.state.name != "WAITING":
                record = to_trial(trial)
                if trial.state.is_finished():  # what has ended does not change any more
                    self._ended[trial.number] = record
            if record is not None:
                found.append(record)
        self._read, self._read_at = found, time.monotonic()
        return list(found)

    def state(self) -> RunState:
        """As run.json says, except that a running search whose processes are gone was interrupted."""
        if self.progress.state == RunState.RUNNING and not _alive(self.progress):
            return RunState.INTERRUPTED
        return self.progress.state


def launcher() -> dict[str, Any]:
    """This process as run.json names it. Its start is told too: after a reboot another process has its number."""
    import socket

    import psutil

    return {"launcher_pid": os.getpid(), "launcher_host": socket.gethostname(),
            "launcher_started": psutil.Process().create_time()}


def _alive(progress: RunProgress) -> bool:
    """Whether the launcher lives: by its process on this machine, by what it last wrote on another one."""
    import socket

    import psutil

    if progress.launcher_pid is None:
        return False
    if progress.launcher_host not in (None, socket.gethostname()):
        return time.time() - (progress.updated or 0.0) < SILENT_S
    try:
        return (progress.launcher_started is None
                or abs(psutil.Process(progress.launcher_pid).create_time() - progress.launcher_started) < 2)
    except (psutil.NoSuchProcess, OverflowError):
        return False
    except psutil.AccessDenied:
        return True
