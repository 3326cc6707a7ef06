"""A launcher that is killed while its workers start leaves nobody behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from nas.runs.run import Run
from nas.search.confirmed import search_trials
from nas.workers.liveness import KEPT_LOGS, LAUNCHER, Heartbeat, launcher_gone, this_launcher, tidy
from nas.workers.worker import Worker
from tests.nas.stand_in import StandIn
from tests.nas.workers.test_kill import begin, launch, workers_of


def test_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LAUNCHER, raising=False)
    assert not launcher_gone()  # a user's own worker
    monkeypatch.setenv(LAUNCHER, this_launcher())
    assert not launcher_gone()
    monkeypatch.setenv(LAUNCHER, json.dumps([socket.gethostname(), os.getpid(), 1.0]))  # its number, another start
    assert launcher_gone()
    monkeypatch.setenv(LAUNCHER, json.dumps(["elsewhere", 1, 1.0]))
    assert not launcher_gone()
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(process.pid).create_time()
    time.sleep(0.5)
    monkeypatch.setenv(LAUNCHER, json.dumps([socket.gethostname(), process.pid, started]))
    assert launcher_gone()  # ended, and nobody has asked how
    process.wait()
    assert launcher_gone()


@pytest.mark.timeout(200)
def test_kills_at_every_moment_of_the_start(tmp_path: Path) -> None:
    """Each launcher is killed so many seconds after its first worker process appeared."""
    runs = [begin(tmp_path / f"run{number}", 200).path for number in range(4)]
    for pause_s, run in zip((0.0, 0.3, 1.0, 3.0), runs, strict=True):
        process = launch(run, 200, 2)
        while not workers_of(run):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(pause_s)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 90
    while left := [worker for run in runs for worker in workers_of(run) if worker.is_running()]:
        assert time.monotonic() < deadline, f"{len(left)} workers go on without their launcher"
        time.sleep(0.5)


def test_what_ended_workers_leave_is_removed(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", 0)
    folder = run.path / "workers"
    with Heartbeat(run, "alive"):
        for number in range(40):
            (folder / f"w{number}.lock").touch()
            (folder / f"w{number}.log").write_text("words" if number % 2 else "")
        (folder / "w3.idle").touch()
        (folder / "alive.log").touch()
        (folder / "0123456789abcdef-0.pt").touch()
        tidy(run)
        left = {path.name for path in folder.iterdir()}
        assert {"alive.lock", "alive.log", "0123456789abcdef-0.pt"} <= left
        assert not any(name.endswith((".idle",)) or (name.startswith("w") and name.endswith(".lock")) for name in left)
        assert sum(name.startswith("w") for name in left) <= KEPT_LOGS


def test_no_trial_is_begun_beyond_the_limit(tmp_path: Path) -> None:
    """Workers of one machine that choose at the same moment."""
    run = begin(tmp_path / "run", 0)
    run.update(trial_limit=5, workers=4)

    def one(number: int) -> None:
        opened = Run.open(run.path)
        Worker(opened, f"w{number}", StandIn(opened, measure_s=0, rung_s=0)).loop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert sum(trial.counted for trial in search_trials(Run.open(run.path))) == 5
