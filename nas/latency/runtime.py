"""What a runtime has to offer, and what it is asked to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nas.latency.network import Network

# The protocols of measuring, by what they are called and by what their values are stored under.
VERSIONS = {"warm": "warm-2", "modelbench": "modelbench-1", "paper": "paper-1"}

HALF_WIDTH = 0.03  # of the 95 % interval, relative: what a measurement aims at unless told otherwise


@dataclass(frozen=True)
class Setting:
    """How a network is run: input side in pixels, images at once, CPU threads, number format."""

    resolution: int = 256
    batch: int = 1
    threads: int = 1
    precision: str = "fp32"


class Session(Protocol):
    """A network ready to run. `clock` is "cpu" where process-CPU time is what an inference costs
    (one thread, nothing spinning) and "wall" elsewhere. One whose calls are far apart says `isolated = True`:
    its blocks are single calls."""

    clock: str

    def block(self, repeats: int) -> float:
        """Seconds that `repeats` inferences take, by the session's clock."""


class Runtime(Protocol):
    """One way to run networks here. `lock` names the hardware that cannot serve two measurements at once."""

    name: str
    lock: str
    precisions: tuple[str, ...]
    threads: bool  # whether --threads means something
    limit_s: float  # for converting and loading one network, and for measuring it

    def missing(self) -> str | None:
        """None where the runtime can measure; else one sentence on what it needs."""

    def version(self) -> str:
        """Name and version of what runs the network; a part of the cache's key. Imports nothing heavy."""

    def prepare(self, network: Network, setting: Setting) -> Session:
        """Convert and load; the slow part, done outside the device's lock.

        Raises:
            Failure: the runtime cannot convert or run this network.
        """


@dataclass
class Calls:
    """A Session around a function that runs the network once and returns when it is done."""

    run: Callable[[], Any]
    clock: str

    def block(self, repeats: int) -> float:
        read = time.process_time if self.clock == "cpu" else time.perf_counter
        run = self.run
        begun = read()
        for _ in range(repeats):
            run()
        return read() - begun


def cpu_clock(setting: Setting) -> str:
    """Process-CPU time is right for one thread; thread pools hand work around, which only the wall clock sees."""
    return "cpu" if setting.threads == 1 else "wall"
