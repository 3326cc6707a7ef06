"""A run on a user's images ends with trained networks: whatever is killed, each is trained once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.runs.run import Run
from nas.search.confirmed import search_trials

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(10):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


def search(*words: str, rung_s: float = 0.05, **environment: str) -> subprocess.Popen[str]:
    worker = f"{sys.executable} -m tests.nas.stand_in"
    return subprocess.Popen([sys.executable, "search.py", *words], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | environment | {
                                "FASTVIT_EXPLORER_WORKER": worker, "OMP_NUM_THREADS": "1",
                                "STAND_IN_RUNG_S": str(rung_s)})


def begin(photos: Path, run: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    return search("--budget-ms", "3", "--data", str(photos), "--resolution", "32", "--run", str(run), "--trials", "2",
                  "--train-images", "6400", "--confirm", "4", "--workers", "1", *words,
                  rung_s=float(more.pop("rung_s", "0.05")), **more)


def test_a_run_on_images_ends_with_trained_networks_beside_the_presets(photos: Path, tmp_path: Path) -> None:
    out, err = begin(photos, tmp_path / "run", "--json").communicate(timeout=240)
    front = json.loads(out)
    assert "networks are trained at full width, 6,400 images each at 32 px" in err
    assert front["unit"] == "top-1"
    assert all(point["trained"] and point["unit"] == "top-1" and point["trained_images"] == 6400
               and point["top1_low"] < point["score"] < point["top1_high"] for point in front["points"])
    run = Run.open(tmp_path / "run")
    trained = [r for r in search_trials(run) if r.trained]
    assert len(trained) == 4
    fitting = [r for r in search_trials(run) if r.preset and r.latency and r.latency.ci_high_ms <= 3]
    largest = max(fitting, key=lambda r: r.gmacs or 0)
    assert largest.trained is not None
    assert front["points"][-1]["score"] >= largest.trained.top1
    assert front["recommendation"]["trial"] == front["points"][-1]["trial"]
    assert "top-1" in front["recommendation"]["headline"]
    assert {r.trial for r in trained} == {int(p.name.split("-")[0]) for p in (run.path / "weights").glob("*-full.*")}
    assert all(not point["trained"] and point["unit"] == "estimated top-1" for point in front["estimated"])
    assert not list((run.path / "workers").glob("*.pt"))


def test_killed_in_its_last_phase_it_goes_on_and_trains_nothing_twice(photos: Path, tmp_path: Path) -> None:
    launcher = begin(photos, tmp_path / "run", rung_s="0.5")
    ledger, deadline = tmp_path / "run" / "ledger", time.monotonic() + 200
    try:
        while not (ledger.exists() and '["full"' in ledger.read_text()):
            assert time.monotonic() < deadline
            assert launcher.poll() is None, launcher.communicate()
            time.sleep(0.1)
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    finally:
        launcher.kill()
    begun = [r for r in Run.open(tmp_path / "run").trials() if r.trains is not None]
    assert begun
    assert Run.open(tmp_path / "run").state() == "interrupted"
    time.sleep(2)  # a worker whose launcher was killed ends after its trial
    again = search("resume", str(tmp_path / "run"), "--train-images", "6400", "--confirm", "4", "--json")
    out, err = again.communicate(timeout=240)
    assert json.loads(out)["unit"] == "top-1", err
    run = Run.open(tmp_path / "run")
    assert sum(r.trained is not None for r in search_trials(run)) == 4
    done = Counter(tuple(json.loads(line)[:3]) for line in ledger.read_text().splitlines() if '"full"' in line)
    assert [work for work, times in done.items() if times > 1] == []
    assert len({key for _, key, _ in done}) == 4


def test_a_network_that_diverges_is_a_recorded_trial(photos: Path, tmp_path: Path) -> None:
    from fastvit import PRESETS

    key = PRESETS["sa24"].key()  # the largest under the budget, which always is among those that are trained
    out, err = begin(photos, tmp_path / "run", "--json", STAND_IN_DIVERGES=key).communicate(timeout=240)
    assert "SA24 could not be trained at full width: training diverged" in err
    front = json.loads(out)
    assert front["points"]
    assert key not in {point["config_key"] for point in front["points"]}
    failed = [r for r in Run.open(tmp_path / "run").trials() if r.trains is not None and r.outcome == "failed"]
    assert len(failed) == 1
