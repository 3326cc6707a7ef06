"""What a worker does in a run that has a plan: whole networks for a short while, and no parent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvit import FastViTConfig
from nas.data import load_task
from nas.estimate.judge import PhotographJudge, run_judge
from nas.latency.cache import machine
from nas.proxy.recipe import RECIPE
from nas.runs.meta import RunMeta, SpaceSource
from nas.runs.run import Run
from nas.runs.trial import Outcome, Trial
from nas.search.plan import SearchPlan
from nas.workers.evaluator import RunEvaluator
from space import SearchSpace

TINY = FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2),
                     mixers=("repmixer", "repmixer", "repmixer", "attention"), head_dim=16)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for number in range(15):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(
                tmp_path / "photographs" / name / f"{number}.png")
    data, space = str(tmp_path / "photographs"), SearchSpace.load("default")
    task = load_task(data, resolution=32)
    return Run.create(tmp_path / "run", RunMeta(
        id="", budget_ms=1.0, device="onnxruntime", resolution=32, task=data, task_fingerprint=task.fingerprint,
        num_classes=2, space=SpaceSource(space.name, space.source), steps=2, plan=SearchPlan(32, 2, 50, 1.0).to_dict(),
        recipe=RECIPE, host={"processor": machine()}))


def test_a_configuration_is_trained_whole_and_is_evidence(run: Run, tmp_path: Path) -> None:
    evaluator = RunEvaluator(run)
    evaluator.prepare(0)
    assert not (tmp_path / "cache" / "parents").exists()
    result = evaluator.score(TINY, seed=0, checkpoint=tmp_path / "begun.pt", on_rung=lambda _: False)
    assert result.steps == 2
    assert 0 <= result.score <= 1
    assert 0 < result.score_sd < 0.5
    evaluator.keep(tmp_path / "begun.pt", 0)  # no proxy's weights to keep
    trial = Trial(0, Outcome.COMPLETE, config=TINY, score=result.score, score_sd=result.score_sd)
    before, after = (run_judge(run.meta, trials) for trials in ([], [trial]))
    assert isinstance(after, PhotographJudge)
    assert "1 whole network trained on these images" in after.origin
    assert after.estimate([TINY])[0].sd < before.estimate([TINY])[0].sd
