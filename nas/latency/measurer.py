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

from nas.errors import Failure, NotAvailable, UsageError
from nas.files import cache_folder
from nas.latency import protocols
from nas.latency.devices import check_setting, runtime
from nas.latency.measurement import Measurement
from nas.latency.network import Network
from nas.latency.reference import nearest, rescale, session_of, unit_ms
from nas.latency.runtime import HALF_WIDTH, VERSIONS, Runtime, Session, Setting
from nas.runs.run import now

# The reference moves with the machine, a little on the CPU's clock and a lot on the wall's.
DRIFT = {"cpu": 0.15, "wall": 0.5}
Tell = Callable[[str], None]


def measure_here(request: dict[str, Any], tell: Tell) -> list[Measurement]:
    """Measure the request's targets in one session, in this process. `tell` hears which stage begins."""
    device, setting = request["device"], Setting(**request["setting"])
    chosen = runtime(device)
    check_setting(chosen, setting)
    if needs := chosen.missing():
        raise NotAvailable(f"--device {device} {needs}")
    networks = [Network.of(target) for target in request["targets"]]
    clock = _Stages(tell)
    clock.enter("prepare")
    protocol = request["protocol"]
    sessions = [] if protocol == "modelbench" else [chosen.prepare(network, setting) for network in networks]
    # Several networks share one session, and so one reference: the one nearest to their geometric mean.
    sizes = [network.size(setting.resolution)[0] for network in networks]
    against = nearest(float(np.exp(np.mean(np.log(sizes)))))
    if protocol == "interleaved":
        session_of(against, device, setting)
    clock.enter("wait")
    with FileLock(cache_folder() / f"{chosen.lock}.lock"):
        clock.enter("measure")
        if protocol == "interleaved":
            found = _interleaved(chosen, setting, networks, sessions, against, request.get("budget_ms"),
                                 request.get("half_width", HALF_WIDTH), renew=request.get("renew", False))
        else:
            found = [_published(protocol, chosen, setting, network, sessions[index] if sessions else None)
                     for index, network in enumerate(networks)]
    clock.enter("done")
    return [Measurement(**values, name=network.name, config_key=network.key, device=device, origin="measured",
                        resolution=setting.resolution, batch=setting.batch, threads=setting.threads,
                        precision=setting.precision, protocol=VERSIONS[protocol],
                        runtime=chosen.version(), measured_at=now(), stages_s=clock.seconds,
                        seconds=sum(clock.seconds.values()))
            for network, values in zip(networks, found, strict=True)]


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


def _interleaved(chosen: Runtime, setting: Setting, networks: list[Network], sessions: list[Session],
                 against: str, budget_ms: float | None, half_width: float, *, renew: bool) -> list[dict[str, Any]]:
    reference = session_of(against, chosen.name, setting)
    kind = reference.clock
    rng = np.random.default_rng([int(network.key, 16) for network in networks])
    unit = unit_ms(against, chosen.name, setting)
    enough = protocols.precise(kind, half_width, budget_ratio=budget_ms / unit if budget_ms else None)
    drifted = False
    for _ in range(2):
        samples = protocols.interleave(sessions, reference, enough=enough, rng=rng)
        seen = float(np.median(np.array(samples.reference_ms)[samples.kept(kind)]))
        drifted = abs(np.log(seen / unit)) > np.log1p(DRIFT[kind])
        if not drifted:
            break
    if drifted and renew and seen < unit:
        # Other work can only slow a network down: the stored reference was disturbed, and this one is less so.
        rescale(chosen.name, setting, seen / unit)
        unit, drifted = seen, False
    found = []
    for trial in range(len(networks)):
        ratio, low, high = samples.ratio(trial, kind)
        widen = samples.widen(kind)
        half = widen * ratio
        low, high = ratio - np.hypot(ratio - low, half), ratio + np.hypot(high - ratio, half)
        narrow = (high - low) / 2 <= (HALF_WIDTH + widen) * ratio
        flags = [] if narrow or "capped" not in samples.flags else ["capped"]
        if budget_ms and low * unit <= budget_ms <= high * unit:
            flags.append("undecided")
        elif not narrow and "capped" not in flags:
            flags.append("early")
        if drifted:
            flags.append("drift")
        found.append({"latency_ms": ratio * unit, "ci_low_ms": float(low * unit), "ci_high_ms": float(high * unit),
                      "flags": tuple(flags),
                      "samples": {"trial_ms": samples.trial_ms[trial], "reference_ms": samples.reference_ms,
                                  "waited": samples.waited}})
    return found


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


_KINDS = ((UsageError, "usage"), (NotAvailable, "not_available"), (Failure, "failure"))


def answer(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The measurements as a JSON document, or the error with its kind."""
    try:
        return {"measurements": [found.to_dict() for found in measure_here(request, tell)]}
    except Exception as error:
        kind = next((name for known, name in _KINDS if isinstance(error, known)), "failure")
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
