"""A search on a folder of images, small: the plan, short trainings at full width, estimates on the axis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.runs.run import Run
from nas.search.confirmed import search_trials
from tests.nas.commands.test_search import TINY, search

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_a_run_on_photographs_follows_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(TINY)
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(
                tmp_path / "photographs" / name / f"{number}.png")
    done = search("--budget-ms", "1.5", "--data", tmp_path / "photographs", "--resolution", "32", "--space",
                  tmp_path / "tiny.toml", "--trials", "2", "--steps", "2", "--confirm", "0", "--run", tmp_path / "run",
                  "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert "plan: every configuration at full width, 32 px, 2 steps of 64" in done.stderr
    assert "parent" not in done.stderr
    front = json.loads(done.stdout)
    assert front["unit"] == "estimated top-1"
    assert all(0 < point["score"] < 1 and point["score_sd"] > 0.01 for point in front["points"])
    assert "told_apart" in front
    run = Run.open(tmp_path / "run")
    assert run.meta.plan == {"pixels": 32, "steps": 2, "configurations": 0, "seconds": 0.0}
    scored = [r for r in search_trials(run) if r.scores]
    assert {rung.step for r in scored for rung in r.scores} == {2}
    rows = search("score", "t8", "--run", tmp_path / "run", "--json")
    assert "whole networks trained on these images" in json.loads(rows.stdout)[0]["from"], rows.stderr
