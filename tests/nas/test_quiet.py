"""Quiet windows: trainers pause, and nobody waits for the dead or the stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nas import quiet

TRAINER = """
import sys, time
from nas import quiet
for step in quiet.paced(range(10**6)):
    print(step, time.monotonic(), flush=True)
    time.sleep(0.01)
"""
MEASURER = """
import time
from nas import quiet
with quiet.window() as paused:
    print(paused, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))


class Child:
    """A program that prints a line now and then; `lines` is what came so far."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_for_more()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for_more(self, limit_s: float = 20.0) -> None:
        count, end = len(self.lines), time.monotonic() + limit_s
        while len(self.lines) <= count:
            assert time.monotonic() < end, "nothing came"
            time.sleep(0.01)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_no_trainer_steps_inside_a_window_and_all_go_on_after_it() -> None:
    with Child(TRAINER) as first, Child(TRAINER) as second:
        with quiet.window() as paused:
            assert paused
            begun = time.monotonic()
            time.sleep(0.3)
            ended = time.monotonic()
        first.wait_for_more()
        second.wait_for_more()
        times = [float(line.split()[1]) for child in (first, second) for line in child.lines]
        assert not [moment for moment in times if begun < moment < ended]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_measurer_that_dies_holds_nobody_up(how: int) -> None:
    before = quiet.paused_s()
    with Child(MEASURER) as measurer:
        assert measurer.lines[0] == "True\n"
        threading.Timer(0.2, os.kill, (measurer.process.pid, how)).start()
        begun = time.monotonic()
        with quiet.training():
            waited = time.monotonic() - begun
    assert 0.1 < waited < 10
    assert quiet.paused_s() - before == pytest.approx(waited, abs=0.1)


def test_a_trainer_that_dies_or_is_stopped_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with Child(TRAINER) as trainer:
        os.kill(trainer.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(quiet, "STEP_LIMIT_S", 0.2)
        with quiet.window() as paused:
            assert not paused
        monkeypatch.setattr(quiet, "STEP_LIMIT_S", 3.0)
        trainer.process.kill()
        trainer.process.wait()
        with quiet.window() as paused:
            assert paused


def test_a_window_that_never_ends_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "WINDOW_LIMIT_S", 0.2)
    with quiet.training() as between_steps:
        with Child(MEASURER):
            assert between_steps() >= 0.2
            assert [between_steps() for _ in range(3)] == [0.0] * 3
        assert between_steps() == 0.0
        with Child(MEASURER):
            assert between_steps() >= 0.2, "the next window is waited for again"


def test_an_error_in_a_step_frees_the_lock() -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(map(fail, quiet.paced(range(3))))
    with quiet.window() as paused:
        assert paused


def test_steps_cost_nothing_while_nobody_measures() -> None:
    assert list(quiet.paced("abc")) == ["a", "b", "c"]
    with quiet.training() as between_steps:
        assert {between_steps() for _ in range(100)} == {0.0}
