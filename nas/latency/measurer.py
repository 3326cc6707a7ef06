"""The process that measures: requests in, measurements out, one JSON document a line.

It stands apart from whoever asks, so that a runtime that crashes or hangs takes nothing with it, and it stays
alive between requests, so that torch and the runtimes are imported once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from filelock import FileLock

from nas import quiet
from nas.clock import now
from nas.errors import Failure, NotAvailable, UsageError, kind_of
from nas.files import cache_folder
from nas.latency import protocols
from nas.latency.devices import check_setting, runtime
from nas.latency.network import Network
from nas.latency.noise import BUSY, Others
from nas.latency.reference import session_of
from nas.latency.runtime import HALF_WIDTH, VERSIONS, Runtime, Session, Setting
from nas.latency.warm import steady, undisturbed
from nas.runs.measurement import Measurement, Origin

Tell = Callable[[str], None]


def measure_here(request: dict[str, Any], tell: Tell) -> list[Measurement]:
    """Measure the request's targets in this process, one after the other. `tell` hears which stage begins."""
    device, setting = request["device"], Setting(**request["setting"])
    chosen = runtime(device)
    check_setting(chosen, setting)
    if needs := chosen.missing():
        raise NotAvailable(f"--device {device} {needs}")
    protocol, found = request["protocol"], []
    for network in [Network.of(target) for target in request["targets"]]:
        clock = _Stages(tell)
        clock.enter("prepare")
        session = None if protocol == "modelbench" else chosen.prepare(network, setting)
        reference = session_of(device, setting) if protocol == "warm" else None
        clock.enter("wait")
        # One network at a time has the device, so that neither another worker nor its training waits long.
        with FileLock(cache_folder() / f"{chosen.lock}.lock"), quiet.window() as paused:
            clock.enter("measure")
            if session is not None and reference is not None:
                values = _warm(session, reference, request.get("budget_ms"), request.get("half_width", HALF_WIDTH))
            else:
                values = _published(protocol, chosen, setting, network, session)
        clock.enter("done")
        if not paused or values.get("others", 0.0) > BUSY:
            values["flags"] = (*values.get("flags", ()), "busy")
        found.append(Measurement(
            **values, name=network.name, config_key=network.key, device=device, origin=Origin.MEASURED,
            resolution=setting.resolution, batch=setting.batch, threads=setting.threads, precision=setting.precision,
            protocol=VERSIONS[protocol], runtime=chosen.version(), measured_at=now(), stages_s=clock.seconds,
            seconds=sum(clock.seconds.values())))
    return found


class _Stages:
    def __init__(self, tell: Tell) -> None:
        self.tell, self.seconds, self.stage, self.begun = tell, {}, "", time.perf_counter()

    seconds: dict[str, float]

    def enter(self, stage: str) -> None:
        now_s = time.perf_counter()
        if self.stage:
            self.seconds[self.stage] = now_s - self.begun
        self.stage, self.begun = stage, now_s
        self.tell(stage)


def _warm(session: Session, reference: Session, budget_ms: float | None, half_width: float) -> dict[str, Any]:
    with undisturbed(), Others() as others:
        found = steady(session, reference, budget_ms=budget_ms, half_width=half_width)
    middle, low, high = found.network.estimate(others.share)
    flags = found.flags
    if budget_ms is not None and low <= budget_ms <= high:
        flags = (*flags, "undecided")
    elif not flags and high - middle > 1.5 * max(half_width, HALF_WIDTH) * middle:
        flags = ("capped",)
    if not flags and half_width > HALF_WIDTH:
        flags = ("early",)
    return {"latency_ms": middle, "ci_low_ms": low, "ci_high_ms": high, "flags": flags,
            "others": others.share, "reference_ms": found.reference.estimate()[0],
            "samples": {"trial_ms": found.network.ms, "waited": found.network.waited,
                        "reference_ms": found.reference.ms}}


def _published(protocol: str, chosen: Runtime, setting: Setting, network: Network,
               session: Session | None) -> dict[str, Any]:
    """The two published protocols; their intervals hold within this session alone, and flag nothing."""
    if protocol == "modelbench":
        means, raw = protocols.modelbench(lambda: chosen.prepare(network, setting))
        from scipy.stats import t

        middle, half = float(np.mean(means)), float(t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1)
                                                    / len(means)**0.5)
        return {"latency_ms": middle, "ci_low_ms": middle - half, "ci_high_ms": middle + half,
                "samples": {"trial_ms": raw, "round_ms": means}}
    assert session is not None
    raw = protocols.paper(session)
    middle, low, high = protocols.median_interval(np.array(raw))
    return {"latency_ms": middle, "ci_low_ms": low, "ci_high_ms": high, "samples": {"trial_ms": raw}}


def answer(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The measurements as a JSON document, or the error with its kind."""
    try:
        return {"measurements": [found.to_dict() for found in measure_here(request, tell)]}
    except Exception as error:
        kind = kind_of(error)
        text = str(error) if isinstance(error, (Failure, UsageError)) else f"{type(error).__name__}: {error}"
        return {"error": text.splitlines()[0][:500] if text else "unknown", "kind": kind}


def main() -> None:
    # Runtimes print where they like; the answers keep a pipe of their own.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    waiting: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            waiting.put(line)
        os._exit(0)  # whoever asks is gone, and so is any wish for an answer

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    threading.Thread(target=read, daemon=True).start()
    while True:
        request = json.loads(waiting.get())
        say(answer(request, lambda stage: say({"stage": stage})))


if __name__ == "__main__":
    main()
