"""Whatever is killed, whenever: what was recorded stays, what was not is tried again, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from nas.runs.run import Run
from nas.search.confirmed import search_trials
from space import SearchSpace

ROOT = Path(__file__).parents[3]
SPACE = SearchSpace.load("default")
STAND_IN = os.environ | {"FASTVIT_EXPLORER_WORKER": f"{sys.executable} -m tests.nas.stand_in", "OMP_NUM_THREADS": "1"}


def begin(path: Path, configs: int, *words: str) -> Run:
    """A run whose queue holds the presets and `configs` configurations, always the same."""
    import search
    from nas.workers.launcher import start

    args = search.build_parser().parse_args(["run", "--budget-ms", "50", "--data", "digits", "--run", str(path),
                                             "--steps", "120", "--sampler", "random", *words])
    args.budgets = [args.budget_ms]
    run = start(args)
    rng = np.random.default_rng(1)
    for _ in range(configs):
        SPACE.enqueue(run.study, SPACE.sample(rng))
    return run


def launch(run: Path, configs: int, workers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "search.py", "resume", str(run), "--trials", str(configs), "--workers", str(workers),
         "--confirm", "0"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=STAND_IN | {"STAND_IN_RUNG_S": "0.5" if workers > 2 else "0.1"})


def workers_of(run: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "tests.nas.stand_in" in words and str(run) in words:
            found.append(process)
    return found


def results(run: Path) -> dict[str, Any]:
    """What the run knows of every configuration, without what is left to chance: numbers, times, names."""
    return {f"{r.config_key}": (r.preset, r.outcome, r.latency_ms, r.score,
                                [(rung.step, rung.score) for rung in r.scores])
            for r in search_trials(Run.open(run)) if not r.retried and r.reused_from is None}


def killed_run(path: Path, *, kills: int, configs: int, workers: int, pause_s: float, seed: int) -> Counter:
    """Run to the end while killing workers and, one time in six, the launcher; what was killed how often."""
    rng, count = random.Random(seed), Counter[str]()
    begin(path, configs)
    left = configs
    launcher = launch(path, left, workers)
    deadline = time.monotonic() + 60 + 8 * kills
    try:
        while True:
            assert time.monotonic() < deadline, "the run does not end"
            time.sleep(rng.uniform(0.2, 2 * pause_s))
            if launcher.poll() is not None:
                assert launcher.returncode == 0, launcher.communicate()[1]
                break
            alive = workers_of(path)
            if sum(count.values()) >= kills or not alive:
                continue
            if rng.random() < 1 / 6:
                launcher.kill()
                launcher.wait()
                count["launcher"] += 1
                if rng.random() < 0.5:  # power cut: the workers go with it
                    for process in workers_of(path):
                        process.kill()
                        count["worker"] += 1
                launcher = launch(path, left_of(path, configs), workers)
            else:
                try:
                    rng.choice(alive).kill()
                    count["worker"] += 1
                except psutil.NoSuchProcess:
                    pass
    finally:
        launcher.kill()
        for process in workers_of(path):
            process.kill()
    return count


def left_of(path: Path, configs: int) -> int:
    done = [r for r in search_trials(Run.open(path)) if not r.preset and not r.retried]
    return max(1, configs - len(done) + sum(r.outcome == "running" for r in done))


def check(path: Path, untouched: dict[str, Any]) -> None:
    found = results(path)
    assert {key: found.get(key) for key in untouched} == untouched
    records = search_trials(Run.open(path))
    assert not [r for r in records if r.outcome == "running"]
    assert {r.reason for r in records if r.outcome == "failed"} <= {"the worker died; tried again"}
    done = Counter(tuple(json.loads(line)[:3]) for line in (path / "ledger").read_text().splitlines())
    assert [work for work, times in done.items() if times > 1] == []
    assert not list((path / "workers").glob("*.pt"))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What runs of so many configurations find when nobody kills them."""
    found = {}
    for configs in (8, 90):
        path = tmp_path_factory.mktemp("untouched") / "run"
        run = begin(path, configs)
        from nas.workers.worker import Worker
        from tests.nas.stand_in import StandIn

        worker = Worker(run, "alone", StandIn(run, measure_s=0, rung_s=0))
        for _ in range(configs + 7):
            worker.run_trial(worker.chooser.study.ask())
        found[configs] = results(path)
        assert len(found[configs]) == configs + 7
        assert {outcome for _, outcome, *_ in found[configs].values()} == {"complete"}
    return found


def test_three_kills(tmp_path: Path, untouched: dict[int, dict[str, Any]]) -> None:
    count = killed_run(tmp_path / "run", kills=3, configs=8, workers=2, pause_s=1.5, seed=4)
    check(tmp_path / "run", untouched[8])
    assert sum(count.values()) >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills(tmp_path: Path, untouched: dict[int, dict[str, Any]]) -> None:
    count = killed_run(tmp_path / "run", kills=50, configs=90, workers=3, pause_s=2.0, seed=0)
    check(tmp_path / "run", untouched[90])
    assert sum(count.values()) >= 50, count
    assert count["launcher"] >= 3, count
    print(count)
