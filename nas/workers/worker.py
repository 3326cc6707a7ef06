"""One worker of a run: choose a configuration, evaluate it, record what was found; until its limits say stop.

Three objects share the work: the Chooser decides what is tried next, the TrialRunner evaluates it, Limits say when to
stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from nas.latency.predictor import Predictor
from nas.latency.runtime import Setting
from nas.runs.folder import check_writable
from nas.runs.run import ConfirmationState, Run
from nas.runs.trial import Outcome, Trial
from nas.search.confirmed import search_trials
from nas.workers.chooser import Chooser
from nas.workers.evaluator import Evaluator, RunEvaluator
from nas.workers.limits import Limits
from nas.workers.liveness import Heartbeat, drop_checkpoint, launcher_gone, worker_name
from nas.workers.trial_runner import TrialRunner

if TYPE_CHECKING:
    import optuna

_SEARCHING = (None, ConfirmationState.LATER)
_NOTHING_COMES = (None, ConfirmationState.DONE)


class Worker:
    """Evaluates trials of one run in this process. All that it knows of other workers, it reads from the storage."""

    def __init__(self, run: Run, name: str, evaluator: Evaluator | None = None) -> None:
        self.run, self.name = run, name
        device, resolution, precision = run.meta.device, run.meta.resolution, run.meta.precision
        # Calibrated on this machine or empty (a simulation has other latencies); it learns from what the run measures.
        self.predictor = (Predictor.of_run(device, resolution, precision) if evaluator is None
                          else Predictor(device, Setting(resolution)))
        self.limits = Limits(run)
        self.chooser = Chooser(run, name, self.predictor)
        self.runner = TrialRunner(run, name, evaluator or RunEvaluator(run), self.predictor, self.chooser.proposer,
                                  self.should_stop)
        self._free_since = time.perf_counter()

    def should_stop(self) -> bool:
        return self.limits.should_stop(search_trials(self.run))

    def loop(self) -> None:
        """Search until that is enough, then take what waits in the queue until the launcher says `confirmed`."""
        idle = idle_path(self.run, self.name)
        while not self.should_stop():
            trials, confirming = search_trials(self.run), self.run.progress.confirming
            self.predictor.update(trials)
            if confirming in _SEARCHING and not (self.chooser.exhausted or self.limits.searched_enough(trials)):
                if self.chooser.out_of_reach(trials):
                    return
                if (trial := self._begun(trials)) is not None:
                    self.run_trial(trial)
            elif (waiting := self.chooser.next_waiting()) is not None:
                idle.unlink(missing_ok=True)
                self.run_trial(waiting)
            elif confirming in _NOTHING_COMES:
                return
            else:
                idle.touch()
                time.sleep(0.5)
                self._free_since = time.perf_counter()

    def _begun(self, trials: Sequence[Trial]) -> optuna.Trial | None:
        """The next trial; None where others of this machine have begun the last ones meanwhile. Close to the limit
        workers choose one after the other, so that two do not both begin the last trial."""
        progress = self.run.progress
        counted = sum(t.counted for t in trials)
        if progress.trial_limit is None or counted + (progress.workers or 1) < progress.trial_limit:
            return self.chooser.next(trials)
        with FileLock(self.run.path / "workers" / "begin.turn"):
            trials = search_trials(self.run)
            return None if self.limits.searched_enough(trials) else self.chooser.next(trials)

    def run_trial(self, trial: optuna.Trial) -> None:
        """Evaluate one trial and record how it ended."""
        found = self.runner.result(trial)
        spent = found.cost_s | {"propose": self.chooser.seconds}
        # What is left of the time since the trial before this one: asking, reading, recording.
        now = time.perf_counter()
        spent["overhead"] = max(0.0, now - self._free_since - sum(spent.values()))
        self._free_since, self.chooser.seconds = now, 0.0
        self.record(trial, replace(found, cost_s=spent))

    def record(self, trial: optuna.Trial, found: Trial) -> None:
        """Store a trial's end in the study. The record comes first: a successor finishes what a kill cut off here."""
        from optuna.trial import TrialState

        trial.set_user_attr("record", found.to_record())
        drop_checkpoint(self.run, found)
        if found.latency_ms is not None:
            trial.set_constraint("latency_ms", found.latency_ms - self.run.meta.budget_ms)
        if found.outcome == Outcome.COMPLETE and found.score is not None and found.latency_ms is not None:
            self.chooser.study.tell(trial, [found.latency_ms, found.score])
        else:
            failed = found.outcome == Outcome.FAILED
            self.chooser.study.tell(trial, state=TrialState.FAIL if failed else TrialState.PRUNED)
        self.chooser.told(found)


def idle_path(run: Run, name: str) -> Path:
    """There while a worker waits for the launcher to say what is to be confirmed."""
    return run.path / "workers" / f"{name}.idle"


def work(run: Run, name: str | None = None, evaluator: Evaluator | None = None) -> int:
    """Evaluate trials until the run is told to stop; the exit code."""
    check_writable(run.path)
    name = name or worker_name()
    with Heartbeat(run, name):
        worker = Worker(run, name, evaluator)
        # A launcher that was killed cannot say stop; its workers then end after their current trial. It may have been
        # killed while this process was starting.
        if launcher_gone():
            return 0
        threading.Thread(target=_end_when_orphaned, args=(worker,), daemon=True).start()
        worker.loop()
    return 0


def _end_when_orphaned(worker: Worker) -> None:
    while not launcher_gone():
        time.sleep(1)
    worker.limits.ended.set()
