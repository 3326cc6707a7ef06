"""When a worker stops: told to, out of time, or enough trials."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from nas.data import DRAWN
from nas.runs.meta import ConfirmationState
from nas.runs.run import Run
from nas.runs.trial import Trial
from nas.search.plan import CONFIGURATIONS


class Countdown:
    """Time that is left by somebody else's stopwatch. Its readings come now and then; between them this process's own
    stopwatch goes on, so that no clock of either machine matters."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reading: float | None = None
        self._read_at = 0.0

    def left(self, reading: float | None) -> float | None:
        """Seconds left, given the newest reading; None where there is no limit."""
        if reading != self._reading:
            self._reading, self._read_at = reading, self._clock()
        return None if reading is None else reading - (self._clock() - self._read_at)


class Limits:
    """The stop criterion of one worker."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.ended = threading.Event()  # this worker alone is to end; the run goes on
        self._whole, self._search = Countdown(), Countdown()

    def should_stop(self, trials: Sequence[Trial]) -> bool:
        """Told to stop, or out of time for one more trial."""
        left = self._whole.left(self.run.refresh().seconds_left)
        return self.ended.is_set() or self.run.told_to_stop() or _too_late(left, trials)

    def searched_enough(self, trials: Sequence[Trial]) -> bool:
        """Whether what is left of the run's time and trials is for confirming."""
        progress, meta = self.run.progress, self.run.meta
        if (meta.task not in DRAWN and meta.plan is None and progress.seconds_left is not None
                and progress.confirming == ConfirmationState.LATER
                and sum(t.counted and t.score is not None for t in trials) >= CONFIGURATIONS):
            return True  # more proxies would say little more: the time is the finalists'
        if _too_late(self._search.left(progress.search_seconds_left), trials):
            return True
        return progress.trial_limit is not None and sum(t.counted for t in trials) >= progress.trial_limit


def _too_late(seconds_left: float | None, trials: Sequence[Trial]) -> bool:
    """Whether a usual trial would not end in time."""
    if seconds_left is None:
        return False
    spent = [sum(seconds for part, seconds in t.cost_s.items() if part != "parent")  # which is paid once
             for t in trials if t.score is not None and t.cost_s.get("proxy")]
    return (float(np.median(spent)) if spent else 0.0) > seconds_left
