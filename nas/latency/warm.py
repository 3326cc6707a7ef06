"""The protocol behind every latency that is shown: the warm steady state of one network, run again and again.

That is what an application sees. Blocks of about 10 ms of the same network follow each other; the first of each phase
are dropped, because they begin with the caches that somebody else left. Of the blocks during which no thread waited
for a core, a low-to-middle quantile is the estimate: other work can only slow a network down. Before and after it a
small reference network is run the same way. It does not enter the estimate; it tells how fast the machine was.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nas.latency.noise import Noise
from nas.latency.protocols import warm_up
from nas.latency.runtime import HALF_WIDTH, Session

BLOCK_S = 0.01
MEASURE_S, PHASES = 0.45, 3  # of blocks in all, and in how many parts with the machine's other moods between them
REFERENCE_S = 0.06  # before the first and after each phase
SETTLE_S = 0.01  # of each phase is dropped, one inference at least
LEAST_BLOCKS = 9
CAP_S = 2.0  # or LEAST_BLOCKS, if those take longer
QUANTILE = 0.35
CONTAMINATED = 0.02  # share of a block that its threads spent waiting for a core
# What one session cannot know, as standard deviations: page layouts and the machine's mood differ between sessions,
# others take a part of the caches and of the memory's bandwidth, and where all blocks were interrupted all may be slow
SESSION_SD, OTHERS_SD, INTERRUPTED_SD = 0.023, 0.06, 0.15


@dataclass
class Blocks:
    """One network's blocks: ms an inference, and the share of each block that its threads waited for a core."""

    ms: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def clean(self) -> np.ndarray:
        """Which blocks count: those without contamination, or the cleanest fifth where they are fewer."""
        waited = np.array(self.waited)
        return waited <= max(CONTAMINATED, float(np.quantile(waited, 0.2)))

    @property
    def disturbance(self) -> float:
        """Share of the time that its threads waited, in the blocks that count."""
        return float(np.mean(np.array(self.waited)[self.clean()]))

    def estimate(self, others: float = 0.0) -> tuple[float, float, float]:
        """ms with its 95 % interval, for other sessions too. `others` is the share of the machine that other processes
        took: they can only slow a network down, so that the interval then reaches further down than up."""
        from scipy.stats import quantile_test

        ms = np.array(self.ms)[self.clean()]
        middle = float(np.quantile(ms, QUANTILE))
        inside = quantile_test(ms, q=middle, p=QUANTILE).confidence_interval(0.95)
        low = inside.low if np.isfinite(inside.low) else ms.min()
        high = inside.high if np.isfinite(inside.high) else ms.max()
        session, shared, interrupted = 1.96 * middle * np.array([
            SESSION_SD, OTHERS_SD * min(1.0, 2 * others), INTERRUPTED_SD * self.disturbance])
        return (middle, float(middle - np.linalg.norm([middle - low, session, shared, interrupted])),
                float(middle + np.hypot(high - middle, session)))


@dataclass
class Steady:
    """What a session found: the network's blocks and the reference's."""

    network: Blocks
    reference: Blocks
    flags: tuple[str, ...] = ()


def steady(session: Session, reference: Session, *, budget_ms: float | None = None, half_width: float = HALF_WIDTH,
           cap_s: float = CAP_S) -> Steady:
    """Measure `session`. Ends early when it is over the budget beyond doubt, and sooner where a wider interval than
    the usual one is wanted."""
    begun = time.perf_counter()
    found = Steady(Blocks(), Blocks())
    seconds = MEASURE_S * min(1.0, HALF_WIDTH / half_width)
    warm_up(reference, limit_s=0.3)
    _phase(reference, REFERENCE_S, found.reference, least=2)
    warm_up(session)
    for phase in range(PHASES):
        _phase(session, seconds / PHASES, found.network, least=LEAST_BLOCKS // PHASES)
        _phase(reference, REFERENCE_S, found.reference, least=2)
        if budget_ms is not None and phase < PHASES - 1 and found.network.estimate()[1] > 1.05 * budget_ms:
            found.flags = ("early",)
            break
        if time.perf_counter() - begun > cap_s and len(found.network.ms) >= LEAST_BLOCKS // PHASES:
            found.flags = ("capped",) if phase < PHASES - 1 else ()
            break
    return found


def _phase(session: Session, seconds: float, into: Blocks, least: int) -> None:
    """Blocks of one network for so long, `least` at the least; the first inferences are dropped."""
    begun = time.perf_counter()
    single = session.block(1)
    isolated = getattr(session, "isolated", False)
    while not isolated and time.perf_counter() - begun < SETTLE_S:
        single = session.block(1)
    repeats = 1 if isolated else max(1, round(BLOCK_S / max(single, 1e-7)))
    begun, count = time.perf_counter(), 0
    while count < least or (not isolated and time.perf_counter() - begun < seconds):
        with Noise() as noise:
            spent = session.block(repeats)
        into.ms.append(1e3 * spent / repeats)
        into.waited.append(noise.waited)
        count += 1


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """This thread keeps its core while others want it, as far as that is permitted: in the real-time class for the
    fraction of a second that a measurement takes (an administrator may, and the kernel keeps a twentieth for the rest),
    else by a time slice that is long enough for many inferences (anybody may, on Linux 6.12 and later). Niceness would
    not do: where each terminal is a group of its own, it counts among the processes of that group alone."""
    back = None
    if hasattr(os, "sched_setscheduler"):
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            back = before
        if back is None:
            _long_slice(0.1)
    try:
        yield
    finally:
        if back is not None:
            os.sched_setscheduler(0, *back)
        elif hasattr(os, "sched_setscheduler"):
            _long_slice(0.0)


class _SchedAttr(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64),
                ("nice", ctypes.c_int32), ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64),
                ("deadline", ctypes.c_uint64), ("period", ctypes.c_uint64)]


_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


def _long_slice(seconds: float) -> None:
    """Ask for time slices of that length (0: the usual ones); nothing happens where the kernel does not know them."""
    number = _SCHED_SETATTR.get(os.uname().machine) if sys.platform == "linux" else None
    if number is not None:
        wish = _SchedAttr(size=ctypes.sizeof(_SchedAttr), nice=os.getpriority(os.PRIO_PROCESS, 0),
                          runtime=int(1e9 * seconds))
        ctypes.CDLL(None, use_errno=True).syscall(number, 0, ctypes.byref(wish), 0)
