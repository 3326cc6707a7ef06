"""The reference network: T8, timed beside every measurement, so that a reader knows how fast the machine was then."""

from __future__ import annotations

from functools import lru_cache

from fastvit.presets import PRESETS
from nas.latency.devices import runtime
from nas.latency.network import Network
from nas.latency.runtime import Session, Setting

ROOT = "t8"


@lru_cache(maxsize=4)
def session_of(device: str, setting: Setting) -> Session:
    """The reference, ready to run; kept, because every network of a search meets it."""
    return runtime(device).prepare(Network(config=PRESETS[ROOT]), setting)
