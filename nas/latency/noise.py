"""Whether a stretch of time was disturbed, as far as the operating system tells."""

from __future__ import annotations

import time
from pathlib import Path

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
