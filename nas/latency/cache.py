"""Measurements on disk, each under everything that its value depends on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from nas.files import cache_folder, write_json
from nas.latency.runtime import HALF_WIDTH, Runtime, Setting
from nas.runs.measurement import Measurement


@cache
def machine() -> str:
    """The processor's name: a cache that travels to another machine must not be believed there."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} x{os.cpu_count()}"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()} x{os.cpu_count()}"


def system() -> str:
    return f"{platform.system()} {platform.release()}"


def device_place(chosen: Runtime, setting: Setting) -> dict[str, Any]:
    """Everything but the network that a latency depends on. Values from two places are never compared."""
    # A device behind an address tells where it is.
    where = getattr(chosen, "where", None) or {"machine": machine(), "system": system()}
    return where | {"device": chosen.name, "runtime": chosen.version(), "resolution": setting.resolution,
                    "batch": setting.batch, "threads": setting.threads, "precision": setting.precision}


def _path(kind: str, place: dict[str, Any]) -> Path:
    return cache_folder(kind) / (hashlib.sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()[:24] + ".json")


def stored_predictor(place: dict[str, Any]) -> Path:
    """Where the measurements that calibrate this device's predictor are kept."""
    return _path("predictors", place)


class Entry:
    """One measurement in the cache."""

    def __init__(self, place: dict[str, Any], key: str, protocol: str) -> None:
        self.path = _path("latency", place | {"key": key, "protocol": protocol})

    def read(self, budget_ms: float | None, half_width: float = HALF_WIDTH) -> Measurement | None:
        """The stored value, if there is one; one that ended early only where it decides this budget too, and one with a
        wider interval than is asked for only where that is the usual one."""
        try:
            found = Measurement.from_dict(json.loads(self.path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            return None  # written by another version, or damaged: measured again
        if half_width < HALF_WIDTH and found.ci_high_ms - found.ci_low_ms > 2 * half_width * found.latency_ms:
            return None
        return found if "early" not in found.flags or found.decides(budget_ms) else None

    def write(self, found: Measurement) -> None:
        # What ran beside a busy process is shown, flagged, and measured again the next time.
        if "busy" not in found.flags:
            write_json(self.path, found.to_dict())
