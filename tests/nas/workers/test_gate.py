"""What is not measured: only what is over the budget by more than its prediction may err."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nas.latency.predictor import Predictor
from nas.runs.trial import Request
from nas.workers.worker import Worker
from space import SearchSpace
from tests.nas.latency.test_predictor import device_ms, drawn
from tests.nas.workers.test_anchor import begin


class Silent:
    """Says that it was asked."""

    def measure(self, config: object) -> None:
        raise LookupError("measured")


class Queued(SimpleNamespace):
    """A trial that Optuna's study knows nothing of."""

    def set_user_attr(self, name: str, value: object) -> None:
        pass


def test_what_is_surely_over_is_predicted_and_all_else_measured(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    worker = Worker(run, "w0", Silent())  # type: ignore[arg-type]
    seen, others = drawn(30, 1), drawn(60, 2)
    worker.predictor.fit(seen, device_ms(seen, run.meta.resolution))
    ms, sd = worker.predictor.predict(others)
    run.meta = replace(run.meta, budget_ms=float(np.median(ms)))
    outcomes = []
    for config, one, doubt in zip(others, ms, sd, strict=True):
        asked = Queued(number=10**6, user_attrs=Request(config=config).to_attrs())
        outcomes.append(one - 1.96 * doubt > run.meta.budget_ms)
        found = worker.runner.result(asked)  # type: ignore[arg-type]
        if not outcomes[-1]:
            assert (found.outcome, found.reason) == ("failed", "LookupError: measured")
            continue
        assert (found.outcome, found.origin) == ("over_budget", "predicted")
        assert found.latency_ms == pytest.approx(one)
        probe = Queued(number=10**6, user_attrs=Request(config=config, probe=True).to_attrs())
        assert worker.runner.result(probe).reason == "LookupError: measured"  # type: ignore[arg-type]
    assert 0.05 < np.mean(outcomes) < 0.5
    np.testing.assert_array_equal(worker.chooser.predict_ms(others), ms)


def test_a_run_begins_with_what_was_calibrated_for_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    assert not Predictor.of_run("onnxruntime", 64).ready
    configs = [SearchSpace.load("default").sample(np.random.default_rng(seed)) for seed in range(8)]
    Predictor.for_device("onnxruntime", resolution=64).fit(configs, device_ms(configs, 64)).save()
    assert Predictor.of_run("onnxruntime", 64).ready
    assert not Predictor.of_run("onnxruntime", 96).ready
    assert not Predictor.of_run("a device of another machine", 64).ready  # a run can be read where it cannot go on
