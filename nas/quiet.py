"""Quiet windows: trainers on this machine pause between two steps while a latency is measured.

Two locks of the operating system, freed by the kernel when their holder dies. A trainer holds `steps`, shared, while it
trains. Whoever measures takes `window`, which tells trainers to pause, and then waits for `steps`: from then on no
trainer of this machine runs. Both waits have limits, so that neither a trainer that was stopped in the middle of a step
nor a measurer that was stopped in the middle of a window holds up the other for long. On systems without flock nobody
pauses.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TypeVar

from nas.files import cache_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STEP_LIMIT_S = 3.0  # how long a measurement waits for trainers to end their steps
WINDOW_LIMIT_S = 15.0  # how long a trainer waits for a window to end
_POLL_S = 0.005
Item = TypeVar("Item")
_paused_s = 0.0


def paused_s() -> float:
    """Seconds that this process has paused so far, so that others could be measured."""
    return _paused_s


def _lock(name: str) -> IO[bytes]:
    """The lock file of that name on this machine: a cache folder may be shared by several."""
    path = cache_folder("quiet") / f"{platform.node() or 'machine'}.{name}"
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "rb")


def _take(file: IO[bytes], how: int, limit_s: float) -> bool:
    """Whether the lock could be had within the limit. Polled, for flock knows none."""
    end = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        except OSError:  # a file system without locks: nobody pauses
            return False


@contextlib.contextmanager
def window() -> Iterator[bool]:
    """Inside, trainers of this machine pause; the value is whether all of them did. One measurement at a time has it:
    call it with the device's lock held, and keep it short."""
    if fcntl is None:
        yield True
        return
    with _lock("window") as gate, _lock("steps") as steps:
        free = _take(gate, fcntl.LOCK_EX, WINDOW_LIMIT_S)
        yield _take(steps, fcntl.LOCK_EX, STEP_LIMIT_S) and free


@contextlib.contextmanager
def training() -> Iterator[Callable[[], float]]:
    """For whatever keeps a core busy: call the value between two steps. It waits there while something is measured on
    this machine, and returns the seconds that this took."""
    if fcntl is None:
        yield lambda: 0.0
        return
    with _lock("window") as gate, _lock("steps") as steps:
        patient = True

        def between_steps() -> float:
            global _paused_s
            nonlocal patient
            try:  # the usual case costs two system calls
                fcntl.flock(gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                if not patient:
                    return 0.0
            else:
                fcntl.flock(gate, fcntl.LOCK_UN)
                patient = True
                return 0.0
            begun = time.monotonic()
            fcntl.flock(steps, fcntl.LOCK_UN)
            # A window that never ends is not waited for again; the next one is.
            patient = _take(gate, fcntl.LOCK_SH, WINDOW_LIMIT_S)
            if patient:
                fcntl.flock(gate, fcntl.LOCK_UN)
            _take(steps, fcntl.LOCK_SH, STEP_LIMIT_S)
            spent = time.monotonic() - begun
            _paused_s += spent
            return spent

        between_steps()
        _take(steps, fcntl.LOCK_SH, STEP_LIMIT_S)
        yield between_steps


def paced(items: Iterable[Item]) -> Iterator[Item]:
    """`items`, with a pause before each while something is measured: `for step in paced(range(steps))`."""
    with training() as between_steps:
        for item in items:
            between_steps()
            yield item
