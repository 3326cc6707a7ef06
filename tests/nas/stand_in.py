"""A worker whose measuring and training cost a fraction of a second: python -m tests.nas.stand_in RUN NAME.

FASTVIT_EXPLORER_WORKER makes a launcher start it. Values depend on the configuration and the seed alone, so two runs
can be compared. What was done is appended to RUN/ledger, one line a rung, after its checkpoint is in place: a rung
that stands there twice was trained twice.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.addresses import is_address
from nas.errors import DeviceGone, Failure
from nas.files import write_atomic
from nas.latency import measure
from nas.proxy.recipe import rungs
from nas.runs.measurement import Measurement, Origin
from nas.runs.run import Run


@dataclass(frozen=True)
class FullResult:
    hits: int
    images: int
    held_out: str
    cpu_s: float
    curve: list[Any]
    started_from: str = "random weights"


@dataclass(frozen=True)
class Result:
    score: float
    steps: int
    score_sd: float = 0.01
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    curve: list[Any] = field(default_factory=list)


def value(config: FastViTConfig, steps: int, seed: int) -> float:
    """A score that grows with steps and with latency, so that no configuration is dominated and stopped early
    (which would depend on the order of trials), and that differs a little between configurations and seeds."""
    noise = (int(config.key(), 16) + 7919 * seed) % 1000 / 1e7
    return round(0.8 + 0.1 * math.log(latency_ms(config)) + 0.05 * steps / 240 + noise, 8)


def latency_ms(config: FastViTConfig) -> float:
    return 0.2 + 10 * cost(config, 64).gmacs


class StandIn:
    def __init__(self, run: Run, *, measure_s: float = 0.02, rung_s: float = 0.1) -> None:
        self.run, self.measure_s, self.rung_s = run, measure_s, rung_s

    def measure(self, config: FastViTConfig) -> Measurement:
        if os.environ.get("STAND_IN_DIES_OF") == config.key():
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        if (gone := os.environ.get("STAND_IN_GONE")) is not None and Path(gone).exists():
            raise DeviceGone("no answer from http://bench:8765")
        if is_address(self.run.meta.device):  # a real server; only training is stood in for
            return measure(config, self.run.meta.device, resolution=self.run.meta.resolution)
        time.sleep(self.measure_s)
        ms = latency_ms(config)
        return Measurement(name="", config_key=config.key(), device=self.run.meta.device, origin=Origin.MEASURED,
                           resolution=self.run.meta.resolution, latency_ms=ms, ci_low_ms=0.99 * ms,
                           ci_high_ms=1.01 * ms)

    def prepare(self, seed: int) -> None:
        pass

    def score(self, config: FastViTConfig, *, seed: int, checkpoint: Path,
              on_rung: Callable[[Any], bool]) -> Any:
        if (fails := os.environ.get("STAND_IN_FAILS")) is not None:
            time.sleep(self.rung_s)
            raise ZeroDivisionError(fails)
        steps = self.run.meta.steps
        done = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0
        for rung in rungs(steps):
            if rung < done:
                continue
            if rung > done:
                time.sleep(self.rung_s)
                write_atomic(checkpoint, json.dumps({"step": rung}))
                self.note(config.key(), rung, seed)
            result = Result(value(config, rung, seed), rung)
            if rung < steps and on_rung(result):  # type: ignore[arg-type]
                break
        return result

    def train_full(self, config: FastViTConfig, *, recipe: Any, checkpoint: Path, weights: Path,
                   on_rung: Callable[[int, float, float], Any]) -> Any:
        if os.environ.get("STAND_IN_DIVERGES") == config.key():
            raise Failure("training diverged at step 1: the loss is nan")
        done = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0
        top1 = min(0.99, 0.5 + 0.1 * math.log(1 + latency_ms(config)))
        for rung in recipe.rungs:
            if rung <= done:
                continue
            time.sleep(self.rung_s)
            write_atomic(checkpoint, json.dumps({"step": rung}))
            self.note("full", config.key(), rung)
            if rung < recipe.steps:
                on_rung(rung, top1 * rung / recipe.steps, 0.01)
        weights.parent.mkdir(exist_ok=True)
        write_atomic(weights, b"weights")
        return FullResult(round(1000 * top1), 1000, "1000 validation images", 1.0, [])

    def note(self, *words: Any) -> None:
        with (self.run.path / "ledger").open("a") as file:
            file.write(json.dumps([*words, os.getpid()]) + "\n")

    def shipped(self, seed: int) -> dict[str, dict[int, dict[str, Any]]]:
        return {}

    def keep(self, checkpoint: Path, trial: int) -> None:
        pass


if __name__ == "__main__":
    from nas.workers.worker import work

    opened = Run.open(sys.argv[1])
    sys.exit(work(opened, sys.argv[2], StandIn(opened, rung_s=float(os.environ.get("STAND_IN_RUNG_S", "0.1")))))
