"""What one run leaves to the next, and what a run says of its budget, its machine and its end."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastvit import PRESETS, FastViTConfig
from nas.latency import Measurement
from nas.latency.noise import others_words
from nas.latency.predictor import Predictor
from nas.runs.meta import RunMeta, SpaceSource
from nas.runs.trial import Trial
from nas.search.feasibility import feasibility
from nas.workers import launcher
from nas.workers.evaluator import RunEvaluator
from space import SearchSpace
from tests.nas.latency.test_predictor import device_ms, drawn
from tests.nas.trials import measured


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))


def record(config: FastViTConfig, ms: float, runtime: str = "onnxruntime 1") -> Trial:
    found = replace(measured(ms, half_width=0.02), runtime=runtime, reference_ms=1.2, others=0.6)
    return Trial(int(1e3 * ms), config=config, latency=found)


def run_of(records: list[Trial], budget_ms: float = 2.0, precision: str = "fp32") -> Any:
    meta = RunMeta(id="one", budget_ms=budget_ms, device="onnxruntime", resolution=64, task="builtin",
                   space=SpaceSource("default", SearchSpace.load("default").source), precision=precision)
    return SimpleNamespace(meta=meta, path=Path("runs/one"), trials=lambda: records, attrs=dict)


def test_a_second_run_begins_with_what_the_first_measured() -> None:
    configs = drawn(20, 1)
    records = [record(config, ms) for config, ms in zip(configs, device_ms(configs, 64), strict=True)]
    launcher.keep_predictor(run_of(records))
    found = Predictor.of_run("onnxruntime", 64, "fp32")
    assert found.ready
    assert len(found.configs) == 20
    assert not Predictor.of_run("onnxruntime", 64, "int8").ready, "another format has other latencies"
    assert not Predictor.of_run("onnxruntime", 96).ready
    said = feasibility(run_of([]), [])
    assert said is not None, "before anything was measured in the second run"
    assert said.presets_ms.keys() == PRESETS.keys()
    assert 0 < said.shares[2.0] < 1
    assert said.smallest_ms < said.median_ms
    assert all(word in said.words for word in ("2 ms:", "smallest", "median", "T8 ", "MA36 ", "(predicted)"))


def test_a_simulation_leaves_nothing() -> None:
    configs = drawn(20, 1)
    launcher.keep_predictor(run_of([record(config, 1.0, runtime="") for config in configs]))
    assert not Predictor.of_run("onnxruntime", 64).ready


@pytest.mark.parametrize(("trials", "limit"), [(1, "--trials 1"), (None, "the time limit")])
def test_a_run_that_a_limit_ended_says_what_is_within_reach(trials: int | None, limit: str) -> None:
    configs = drawn(20, 1)
    records = [record(config, ms) for config, ms in zip(configs, device_ms(configs, 64), strict=True)]
    median = float(np.median([r.latency_ms for r in records]))
    said = launcher._feasible_yet(run_of(records, median), records, argparse.Namespace(trials=trials))
    assert said is not None
    assert said.startswith(f"{limit} ended the run before it found a configuration that meets {median:g} ms")
    assert "resume runs/one --trials" in said
    assert launcher._feasible_yet(run_of(records, 1e-4), records, argparse.Namespace(trials=trials)) is None
    assert launcher._feasible_yet(run_of([]), [], argparse.Namespace(trials=trials)) is None


def test_a_busy_machine_is_named() -> None:
    assert others_words(0.2) == ""
    assert others_words(0.7, "during this run ").startswith("during this run other processes took 70 % of this machine")
    assert launcher._others([record(PRESETS["t8"], 1.0)]) == 0.6
    assert launcher._others([]) == 0.0


def test_what_was_measured_at_another_speed_of_the_machine_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, str]] = []
    speeds = iter([1.2, 1.25, 0.7, 1.2])

    def measure(config: FastViTConfig, device: str, *, fresh: bool, precision: str, **how: Any) -> Measurement:
        asked.append((fresh, precision))
        return Measurement("", "", device, "measured", 64, 1.0, 0.98, 1.02, reference_ms=next(speeds))

    monkeypatch.setattr("nas.latency.measure", measure)
    one = RunEvaluator.__new__(RunEvaluator)
    one.meta, one._reference_ms = run_of([], precision="int8").meta, None
    for _ in range(2):
        one.measure(PRESETS["t8"])
    assert asked == [(True, "int8"), (False, "int8")], "the first of a worker tells how fast the machine is"
    assert one.measure(PRESETS["t8"]).reference_ms == 1.2
    assert asked[2:] == [(False, "int8"), (True, "int8")]
