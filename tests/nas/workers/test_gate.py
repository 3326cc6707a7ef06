"""What is not measured: only what is over the budget by more than its prediction may err."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nas.latency.predictor import Predictor
from nas.workers.worker import DOUBT, Worker
from space import SearchSpace
from tests.nas.latency.test_predictor import device_ms, drawn
from tests.nas.workers.test_anchor import begin


class Silent:
    """Says that it was asked."""

    def measure(self, config: object) -> None:
        raise LookupError("measured")


def test_hopeless_configurations_are_predicted_and_all_others_measured(tmp_path: Path) -> None:
    worker = Worker(begin(tmp_path / "run"), "w0", Silent())
    seen, others = drawn(30, 1), drawn(60, 2)
    worker.predictor.fit(seen, device_ms(seen, worker.meta["resolution"]))
    ms, sd = worker.predictor.predict(others)
    worker.meta["budget_ms"] = float(np.median(ms))
    outcomes = []
    for config, one, doubt in zip(others, ms, sd, strict=True):
        hopeless = one - DOUBT * doubt > worker.budget_ms
        outcomes.append(hopeless)
        if not hopeless:
            with pytest.raises(LookupError, match="measured"):
                worker.evaluate(config, SimpleNamespace(number=10**6), always=False)
            continue
        record = worker.evaluate(config, SimpleNamespace(number=10**6), always=False)
        assert record["outcome"] == "over_budget"
        assert record["latency"]["origin"] == "predicted"
        assert record["latency"]["latency_ms"] == pytest.approx(one)
        with pytest.raises(LookupError, match="measured"):
            worker.evaluate(config, SimpleNamespace(number=10**6), always=True)
    assert 0.05 < np.mean(outcomes) < 0.5
    np.testing.assert_array_equal(worker.predict_ms(others), ms)


def test_a_run_begins_with_what_was_calibrated_for_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    assert not Predictor.of_run("onnxruntime", 64).ready
    configs = [SearchSpace.load("default").sample(np.random.default_rng(seed)) for seed in range(8)]
    Predictor.for_device("onnxruntime", resolution=64).fit(configs, device_ms(configs, 64)).save()
    assert Predictor.of_run("onnxruntime", 64).ready
    assert not Predictor.of_run("onnxruntime", 96).ready
    assert not Predictor.of_run("a device of another machine", 64).ready  # a run can be read where it cannot go on
