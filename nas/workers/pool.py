"""The worker processes that a launcher looks after."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from nas.errors import Failure, UsageError
from nas.runs.run import Run
from nas.runs.storage import ENVIRONMENT
from nas.workers.liveness import (
    LAUNCHER,
    SAME_PLACE_LIMIT,
    AliveWorkers,
    requeue_abandoned,
    this_launcher,
    worker_name,
)
from nas.workers.resources import Share

# Another command that starts a worker when RUN and a name are appended to it, such as "srun -N1 python -m
# nas.commands.run"; nothing in a run's folder can name one.
COMMAND = "FASTVIT_EXPLORER_WORKER"
# Deaths of each worker without a trial that ends in between. Must exceed SAME_PLACE_LIMIT, so that a poisonous trial
# is abandoned before the pool is. A worker that ends by itself, with a sentence, counts twice.
DEATHS_IN_A_ROW = SAME_PLACE_LIMIT + 1
LOOK_EVERY_S = 5.0


class WorkerProcess(subprocess.Popen):
    name = ""


class Pool:
    """Starts workers, replaces those that die, and puts what they left unfinished back in the queue."""

    def __init__(self, run: Run, shares: list[Share]) -> None:
        self.run, self.shares = run, shares
        self.workers = AliveWorkers(run)
        self.processes: list[WorkerProcess] = []
        self._started = self._deaths = self._ended_before = 0
        self._looked_at = time.monotonic()

    def start(self) -> None:
        self.processes = [self._spawn(share) for share in self.shares]

    def alive(self) -> list[WorkerProcess]:
        return [process for process in self.processes if process.poll() is None]

    def _spawn(self, share: Share) -> WorkerProcess:
        name = worker_name(self._started)
        self._started += 1
        command = shlex.split(os.environ.get(COMMAND, "")) or [sys.executable, "-m", "nas.commands.run"]
        environment = os.environ | share.environment() | {LAUNCHER: this_launcher()}
        if self.run.url:
            environment[ENVIRONMENT] = self.run.url
        with (self.run.path / "workers" / f"{name}.log").open("ab") as log:
            # A session of its own: Ctrl-C reaches the launcher alone, which lets the current trials end.
            worker = WorkerProcess([*command, str(self.run.path.resolve()), name], stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
                                   cwd=Path(__file__).parents[2])
        worker.name = name
        return worker

    def supervise(self, ended: int, *, replace: bool = True) -> int:
        """Put the trials of dead workers back in the queue and replace those workers; how many live.

        Args:
            ended: trials that have ended so far, on any machine: while they grow, deaths are accidents.
            replace: False while the run is ending.

        Raises:
            Failure: workers die without ending a trial.
            UsageError: workers cannot work here; says why.
        """
        if ended > self._ended_before:
            self._ended_before, self._deaths = ended, 0
        dead = [index for index, process in enumerate(self.processes) if process.poll() not in (None, 0)]
        if replace and (dead or time.monotonic() - self._looked_at > LOOK_EVERY_S):
            requeue_abandoned(self.run, self.workers)
            self._looked_at = time.monotonic()
        if any(self.processes[index].returncode == 2 for index in dead):
            raise UsageError(self.last_words())  # it would end the same way again
        for index in dead if replace else ():
            self._deaths += 1 if self.processes[index].returncode < 0 else 2
            if self._deaths > DEATHS_IN_A_ROW * len(self.processes):
                raise Failure(f"workers keep dying ({_how(self.processes[index])}): {self.last_words()}")
            self.processes[index] = self._spawn(self.shares[index])
        return len(self.alive())

    def kill(self) -> None:
        """End every worker at once, and put what it leaves back in the queue."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        requeue_abandoned(self.run, self.workers)

    def last_words(self) -> str:
        """The last line that a worker wrote to its log."""
        logs = sorted((self.run.path / "workers").glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in reversed(logs):
            if lines := path.read_text(errors="replace").strip().splitlines():
                return lines[-1].removeprefix("search.py: ")
        return "no output"


def _how(process: WorkerProcess) -> str:
    code = process.returncode
    return f"signal {-code}" if code < 0 else f"exit code {code}"
