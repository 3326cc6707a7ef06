"""Whether a stretch of time was disturbed, as far as the operating system tells."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

HIGH = 0.1  # how far a latency may lie above the idle machine's where others take half of it or more (docs/latency.md)
_TASKS = Path("/proc/self/task")


def _waited_s() -> float:
    """Seconds that the threads of this process were ready to run and had no core, since they began (Linux)."""
    total = 0
    try:
        for task in _TASKS.iterdir():
            total += int((task / "schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0  # another system, or a thread that ended meanwhile: nothing known, nothing dropped
    return total / 1e9


class Noise:
    """`waited`: share of the time inside the block that threads of this process waited for a core."""

    waited = 0.0

    def __enter__(self) -> Noise:
        self._before, self._begun = _waited_s(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._begun
        self.waited = max(0.0, _waited_s() - self._before) / spent if spent > 0 else 0.0


class Others:
    """`share`: of this machine's cores, what other processes took inside the block; 0 where nothing can be known."""

    share = 0.0

    def __enter__(self) -> Others:
        self._before = _used_s()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        spent = (time.perf_counter() - self._begun) * (os.cpu_count() or 1)
        after = _used_s()
        if spent > 0:
            others = (after[0] - self._before[0]) - (after[1] - self._before[1])
            self.share = min(1.0, max(0.0, others / spent))


BUSY = 0.25  # share of the machine that others may take before a measurement says so


def others_here(seconds: float = 0.3) -> float:
    """Share of this machine that others take just now."""
    with Others() as others:
        time.sleep(seconds)
    return others.share


def others_words(share: float, when: str = "") -> str:
    """What that does to milliseconds, in one sentence; empty where it is no more than they promise to bear."""
    if share <= BUSY:
        return ""
    return (f"{when}other processes took {100 * share:.0f} % of this machine: milliseconds may be "
            f"{100 * HIGH * min(1.0, 2 * share):.0f} % high, and intervals are wider")


def _used_s() -> tuple[float, float]:
    """Seconds of processor time that everybody took since the machine began, and this process. What a hypervisor gave
    to other machines counts as taken."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - idle, time.process_time()
