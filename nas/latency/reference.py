"""The reference networks: what the networks under test are timed against, and how long each takes by itself.

A network whose weights come from memory slows down under load in another way than one that lives in the cache:
with two busy processes beside it, S12 at 64 px takes 12 % longer against T8 but 1 % longer against a network of
its own size. So there is a ladder of references, and a network meets the one whose weights are nearest to its own.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.files import write_json
from nas.latency.cache import device_place, stored_reference
from nas.latency.devices import runtime
from nas.latency.network import Network
from nas.latency.protocols import Samples, interleave
from nas.latency.runtime import VERSIONS, Session, Setting
from nas.runs.run import now

ROOT = "t8"
_T8 = PRESETS[ROOT]
LADDER: dict[str, FastViTConfig] = {  # 0.5 to 31 M parameters
    "w16": _T8.replace(widths=(16, 32, 64, 128)), "w24": _T8.replace(widths=(24, 48, 96, 192)),
    "w32": _T8.replace(widths=(32, 64, 128, 256)), ROOT: _T8, "t12": PRESETS["t12"], "sa12": PRESETS["sa12"],
    "sa24": PRESETS["sa24"], "sa36": PRESETS["sa36"]}
UNIT_ROUNDS = 25


@lru_cache(maxsize=6)
def session_of(name: str, device: str, setting: Setting) -> Session:
    """The reference `name`, ready to run; kept, because every network of a search meets one of a few."""
    return runtime(device).prepare(Network(config=LADDER[name]), setting)


def nearest(params_m: float) -> str:
    """The reference whose number of weights is nearest."""
    return min(LADDER, key=lambda name: abs(math.log(_params_m(name) / params_m)))


@lru_cache
def _params_m(name: str) -> float:
    return cost(LADDER[name]).params_m


def unit_ms(name: str, device: str, setting: Setting) -> float:
    """The reference's own ms on this device: stored once, then believed. Call it with the device's lock held.

    The root's is the median of its blocks; every other one's is its ratio to the root times that, so that all
    references agree with each other.
    """
    if (known := stored_unit(name, device, setting)) is not None:
        return known
    place = reference_place(name, device, setting)
    path = stored_reference(place)
    root = session_of(ROOT, device, setting)
    trials = [] if name == ROOT else [session_of(name, device, setting)]

    def enough(samples: Samples) -> bool:
        return len(samples.reference_ms) >= UNIT_ROUNDS

    samples = interleave(trials, root, enough=enough, rng=np.random.default_rng(0), cap_s=10)
    if trials:
        found = unit_ms(ROOT, device, setting) * samples.ratio(0, root.clock)[0]
    else:
        found = float(np.median(np.array(samples.reference_ms)[samples.kept(root.clock)]))
    write_json(path, {"latency_ms": found, "waited": float(np.median(samples.waited)), "measured_at": now()} | place)
    return found


def stored_unit(name: str, device: str, setting: Setting) -> float | None:
    """The reference's stored ms; None before it was measured."""
    try:
        return float(json.loads(stored_reference(reference_place(name, device, setting)).read_text())["latency_ms"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def rescale(device: str, setting: Setting, factor: float) -> None:
    """Multiply every stored reference of this device by `factor`: they agree with each other and stay so. Call it
    with the device's lock held. What was measured against them before is found no more: its key names the root's ms.
    """
    for name in LADDER:
        place = reference_place(name, device, setting)
        if (known := stored_unit(name, device, setting)) is not None:
            write_json(stored_reference(place), {"latency_ms": known * factor, "measured_at": now(),
                                                 "before": known} | place)


def measured_place(device: str, setting: Setting) -> dict[str, Any]:
    """Everything but the network that a measured latency depends on, the reference's ms among it."""
    return device_place(runtime(device), setting) | {"unit_ms": stored_unit(ROOT, device, setting)}


def reference_place(name: str, device: str, setting: Setting) -> dict[str, Any]:
    return device_place(runtime(device), setting) | {"reference": name, "protocol": VERSIONS["interleaved"]}
