"""Who of a run's workers is alive, and what becomes of the trials of those that are not.

On this machine a worker holds a file's lock, which the kernel frees however the process ends. Through a shared
storage it also counts up an attribute of the study. Whoever looks notes when the count last changed by its own
clock, so the clocks of two machines need not agree.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nas.errors import Failure

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas.runs.run import Run

log = logging.getLogger(__name__)

BEAT_S = 15.0
STALE_S = 75.0  # five beats
UNOWNED_S = 20.0  # between asking for a trial and signing it lie milliseconds
SAME_PLACE_LIMIT = 5  # a trial whose workers die that often without a rung in between is what kills them
BEAT = "beat:"


def worker_name(index: int | None = None) -> str:
    """A name that no other process has: host, process, and the launcher's number for the worker."""
    name = f"{socket.gethostname().partition('.')[0]}-{os.getpid()}"
    return name if index is None else f"{name}-w{index}"


def lock_path(run: Run, name: str) -> str:
    return str(run.path / "workers" / f"{_inside(name)}.lock")


def checkpoint_path(run: Run, key: str, seed: int) -> Path:
    """What a killed worker's successor goes on from."""
    return run.path / "workers" / f"{_inside(key)}-{int(seed)}.pt"


def _inside(name: str) -> str:
    """A name that came with a run, made safe to be a file's: a run from elsewhere is data."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(name))


def drop_checkpoint(run: Run, record: dict[str, Any]) -> None:
    """Once a trial's result is recorded nobody goes on from its checkpoint."""
    if "config_key" in record:
        checkpoint_path(run, record["config_key"], record.get("seed", run.meta["seed"])).unlink(missing_ok=True)


class Pulse:
    """Held by a worker as long as it lives."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name = run, name
        (run.path / "workers").mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(lock_path(run, name), timeout=0)
        self._over = threading.Event()

    def __enter__(self) -> Pulse:
        try:
            self._lock.acquire()
        except Timeout:
            raise Failure(f"a worker named {self.name} is at work on {self.run.path} already; choose another --id"
                          ) from None
        if self.run.shared:
            self._beat(1)
            threading.Thread(target=self._beating, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.run.shared:
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


class Census:
    """Tells the living from the dead, as seen by one process over time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._counts: dict[str, tuple[Any, float]] = {}
        self._unowned: dict[int, float] = {}
        self._beats: dict[str, Any] = {}
        self._looked = -math.inf

    def look(self) -> None:
        """Read the beats once; `alive` answers from what was read."""
        if not self.run.shared:
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

    def dead(self, trial: FrozenTrial) -> bool:
        """Whether nobody works on this running trial any more."""
        worker = trial.user_attrs.get("record", {}).get("worker")
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


def bury(run: Run, census: Census | None = None) -> int:
    """End the running trials whose worker is gone and put their configurations back in the queue; how many.

    A kill between any two of these steps loses nothing: the new trial is there before the old one ends, and the
    next call finds it by `retry_of`.
    """
    from optuna.trial import TrialState

    census = census or Census(run)
    census.look()
    running = run.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    gone = [trial for trial in running if census.dead(trial)]
    if not gone:
        return 0
    begun = {trial.user_attrs.get("retry_of") for trial in run.study.get_trials(deepcopy=False)}
    count = 0
    for trial in gone:
        record = trial.user_attrs.get("record", {})
        if record.get("outcome", "running") != "running":
            close(run, trial, record)  # all was recorded but the trial's end
            continue
        deaths = 1 + (trial.user_attrs.get("deaths", 0) if not _went_on(trial) else 0)
        again = deaths < SAME_PLACE_LIMIT and bool(trial.params or {"config", "timm"} & set(trial.user_attrs)
                                                   or "fixed_params" in trial.system_attrs)
        if again and trial.number not in begun:
            _try_again(run, trial, record, deaths)
        reason = ("the worker died; tried again" if again else f"its workers died {deaths} times at the same place"
                  if deaths >= SAME_PLACE_LIMIT else "the worker died before it had a configuration")
        run.storage.set_trial_user_attr(trial._trial_id, "record", record | {
            "outcome": "failed", "reason": reason, "retried": again})
        run.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        count += 1
    return count


def _went_on(trial: FrozenTrial) -> bool:
    """Whether the trial's worker got further than the one before it."""
    scores = trial.user_attrs.get("record", {}).get("scores") or []
    return len(scores) > len(trial.user_attrs.get("scores") or [])


def _try_again(run: Run, trial: FrozenTrial, record: dict[str, Any], deaths: int) -> None:
    from optuna.trial import TrialState, create_trial

    kept = {key: value for key, value in trial.user_attrs.items() if key != "record"}
    kept |= {"retry_of": trial.number, "deaths": deaths}
    if record.get("scores"):
        kept["scores"] = record["scores"]
    fixed = {key: value for key, value in trial.system_attrs.items() if key == "fixed_params"}
    run.study.add_trial(create_trial(state=TrialState.WAITING, params=trial.params, system_attrs=fixed,
                                     distributions=trial.distributions, user_attrs=kept))


def close(run: Run, trial: FrozenTrial, record: dict[str, Any]) -> None:
    """End a trial as its record says."""
    from optuna.trial import TrialState

    drop_checkpoint(run, record)
    latency = record.get("latency") or {}
    if record["outcome"] == "complete" and record.get("score") is not None and "latency_ms" in latency:
        run.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE,
                                           [latency["latency_ms"], record["score"]])
    else:
        state = TrialState.FAIL if record["outcome"] == "failed" else TrialState.PRUNED
        run.storage.set_trial_state_values(trial._trial_id, state)
