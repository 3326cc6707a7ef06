"""How much memory is free here."""

from __future__ import annotations

import contextlib
from pathlib import Path


def free_gb() -> float:
    """Memory that is free, or free in this container."""
    import psutil

    free = float(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text()
        free = min(free, int(limit) - int(used))  # "max" is no number
    return free / 2**30
