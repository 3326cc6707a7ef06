"""Who of a run's workers is alive, and what becomes of the trials of those that are not.

On this machine a worker holds a file's lock, which the kernel frees however the process ends. Through a shared
storage it also counts up an attribute of the study. Whoever looks notes when the count last changed by its own
clock, so the clocks of two machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nas.errors import Failure
from nas.runs.studies import end_trial, set_trial_attr
from nas.runs.trial import Outcome, Request, Trial, to_trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas.runs.run import Run

log = logging.getLogger(__name__)

BEAT_S = 15.0
STALE_S = 75.0  # five beats
UNOWNED_S = 20.0  # between asking for a trial and signing it lie milliseconds
SAME_PLACE_LIMIT = 5  # give up on a trial after so many worker deaths without a new rung
BEAT = "beat:"
KEPT_LOGS = 20
# Handed down, because by the time that a worker has imported everything its launcher may be gone.
LAUNCHER = "FASTVIT_EXPLORER_LAUNCHER"


def this_launcher() -> str:
    """This process as its workers are told of it: host, number and start, which no later process shares."""
    import psutil

    return json.dumps([socket.gethostname(), os.getpid(), psutil.Process().create_time()])


def launcher_gone() -> bool:
    """Whether the launcher that started this worker is gone. Nobody knows of one on another machine, and a worker that
    a user started has none."""
    import psutil

    try:
        host, pid, started = json.loads(os.environ.get(LAUNCHER, ""))
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) > 2 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def worker_name(index: int | None = None) -> str:
    """A name that no other process has: host, process, and the launcher's number for the worker."""
    name = f"{socket.gethostname().partition('.')[0]}-{os.getpid()}"
    return name if index is None else f"{name}-w{index}"


def lock_path(run: Run, name: str) -> str:
    return str(run.path / "workers" / f"{_inside(name)}.lock")


def checkpoint_path(run: Run, key: str, seed: int) -> Path:
    """What a killed worker's successor goes on from."""
    return run.path / "workers" / f"{_inside(key)}-{int(seed)}.pt"


def full_checkpoint_path(run: Run, key: str, seed: int) -> Path:
    """As `checkpoint_path`, of a full-width training."""
    return checkpoint_path(run, f"full-{key}", seed)


def _inside(name: str) -> str:
    """A name that came with a run, made safe to be a file's: a run from elsewhere is data."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(name))


def drop_checkpoint(run: Run, trial: Trial) -> None:
    """Once a trial's result is recorded nobody goes on from its checkpoint."""
    if trial.config_key is not None:
        path = checkpoint_path if trial.trains is None else full_checkpoint_path
        path(run, trial.config_key, trial.seed or 0).unlink(missing_ok=True)


class Heartbeat:
    """Held by a worker as long as it lives."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name = run, name
        (run.path / "workers").mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(lock_path(run, name), timeout=0)
        self._over = threading.Event()

    def __enter__(self) -> Heartbeat:
        try:
            self._lock.acquire()
        except Timeout:
            raise Failure(f"a worker named {self.name} is at work on {self.run.path} already; choose another --id"
                          ) from None
        if self.run.meta.shared:
            self._beat(1)
            threading.Thread(target=self._beating, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.run.meta.shared:
            with contextlib.suppress(Failure):
                self._beat(None)
        self._lock.release()

    def _beating(self) -> None:
        count = 1
        while not self._over.wait(BEAT_S):
            count += 1
            try:
                self._beat(count)
            except Failure as error:  # the worker meets the same when it records; here it is only late
                log.warning("no heartbeat: %s", error)

    def _beat(self, count: int | None) -> None:
        self.run.set_attr(BEAT + self.name, count)


class AliveWorkers:
    """Tells the living from the dead, as seen by one process over time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._counts: dict[str, tuple[Any, float]] = {}
        self._unowned: dict[int, float] = {}
        self._beats: dict[str, Any] = {}
        self._looked = -math.inf

    def look(self) -> None:
        """Read the beats once; `alive` answers from what was read."""
        if not self.run.meta.shared:
            return
        self._beats = {key[len(BEAT):]: value for key, value in self.run.attrs().items() if key.startswith(BEAT)}
        now = time.monotonic()
        if now - self._looked > 2 * BEAT_S:  # the storage was away, and nobody could beat: everyone's time begins anew
            self._counts = {name: (count, now) for name, (count, _) in self._counts.items()}
        self._looked = now
        for name, count in self._beats.items():
            if name not in self._counts or self._counts[name][0] != count:
                self._counts[name] = count, now

    def alive(self, name: str) -> bool:
        if os.path.exists(lock_path(self.run, name)):
            return held(self.run, name)
        count, seen = self._counts.get(name, (None, 0.0))
        return count is not None and time.monotonic() - seen < STALE_S

    def anyone(self) -> bool:
        """Whether any worker is alive."""
        names = {path.stem for path in (self.run.path / "workers").glob("*.lock")} | set(self._beats)
        return any(self.alive(name) for name in names)

    def abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody works on this running trial any more."""
        worker = to_trial(trial).worker
        if worker:
            return not self.alive(worker)
        first = self._unowned.setdefault(trial.number, time.monotonic())
        return time.monotonic() - first > UNOWNED_S or not self.anyone()


def held(run: Run, name: str) -> bool:
    """Whether a live process on this machine holds the worker's lock."""
    try:
        with FileLock(lock_path(run, name), timeout=0):
            return False
    except Timeout:
        return True


def tidy(run: Run) -> None:
    """Remove what workers that have ended leave in workers/: their locks, their marks of waiting, logs without a word,
    and all but the newest logs."""
    folder = run.path / "workers"
    gone = [path.stem for path in folder.glob("*.lock") if not held(run, path.stem)]
    for name in gone:
        for suffix in (".lock", ".idle"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    logs = sorted((path for path in folder.glob("*.log") if not (folder / f"{path.stem}.lock").exists()),
                  key=lambda path: path.stat().st_mtime)
    for path in [path for path in logs if not path.stat().st_size] + logs[:-KEPT_LOGS]:
        path.unlink(missing_ok=True)


def requeue_abandoned(run: Run, workers: AliveWorkers | None = None) -> int:
    """End the running trials whose worker is gone and put their configurations back in the queue; how many.

    A kill between any two of these steps loses nothing: the new trial is there before the old one ends, and the
    next call finds it by `retry_of`.
    """
    from optuna.trial import TrialState

    workers = workers or AliveWorkers(run)
    workers.look()
    running = run.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    gone = [trial for trial in running if workers.abandoned(trial)]
    if not gone:
        return 0
    begun = {trial.user_attrs.get("retry_of") for trial in run.study.get_trials(deepcopy=False)}
    count = 0
    for found in gone:
        trial, request = to_trial(found), _request(found)
        if trial.outcome.is_finished:
            close(run, found, trial)  # all was recorded but the trial's end
            continue
        went_on = len(trial.scores) > len(request.scores)  # further than the worker before it
        deaths = 1 + (0 if went_on else request.deaths)
        known = bool(found.params or trial.config or request.timm or "fixed_params" in found.system_attrs)
        again = known and deaths < SAME_PLACE_LIMIT
        if again and found.number not in begun:
            _try_again(run, found, replace(request, retry_of=found.number, deaths=deaths, scores=trial.scores,
                                           config=request.config or (None if found.params else trial.config)))
        reason = ("the worker died; tried again" if again else f"its workers died {deaths} times at the same place"
                  if deaths >= SAME_PLACE_LIMIT else "the worker died before it had a configuration")
        ended = replace(trial, outcome=Outcome.FAILED, reason=reason, retried=again)
        set_trial_attr(run.storage, found, "record", ended.to_record())
        end_trial(run.storage, found, TrialState.FAIL)
        count += 1
    return count


def _request(found: FrozenTrial) -> Request:
    """What a trial was asked; nothing where that cannot be read."""
    try:
        return Request.read(found.user_attrs)
    except ValueError:
        return Request()


def _try_again(run: Run, found: FrozenTrial, request: Request) -> None:
    from optuna.trial import TrialState, create_trial

    fixed = {key: value for key, value in found.system_attrs.items() if key == "fixed_params"}
    run.study.add_trial(create_trial(state=TrialState.WAITING, params=found.params, system_attrs=fixed,
                                     distributions=found.distributions, user_attrs=request.to_attrs()))


def close(run: Run, found: FrozenTrial, trial: Trial) -> None:
    """End a trial as its record says."""
    from optuna.trial import TrialState

    drop_checkpoint(run, trial)
    if trial.outcome == Outcome.COMPLETE and trial.score is not None and trial.latency_ms is not None:
        end_trial(run.storage, found, TrialState.COMPLETE, [trial.latency_ms, trial.score])
    else:
        end_trial(run.storage, found, TrialState.FAIL if trial.outcome == Outcome.FAILED else TrialState.PRUNED)
