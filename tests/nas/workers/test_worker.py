"""One worker in this process: what it reuses, what a training that fails costs, other samplers, and confirming."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastvit.config import FastViTConfig
from nas.runs.measurement import Measurement
from nas.runs.run import ConfirmationState, Run
from nas.runs.trial import Outcome, Request, Trial
from nas.search.confirmation import Confirmation, enqueue, further_seeds, parents_seconds
from nas.search.confirmed import LATENCY_ATTR, search_trials
from nas.workers.worker import Worker, idle_path
from tests.nas.stand_in import Result, StandIn
from tests.nas.workers.test_kill import SPACE, begin


def worker_of(run: Run, stand_in: StandIn | None = None) -> Worker:
    return Worker(run, "one", stand_in or StandIn(run, measure_s=0, rung_s=0))  # type: ignore[arg-type]


def searched(run: Run, worker: Worker, count: int) -> list[Trial]:
    for _ in range(count):
        worker.run_trial(worker.chooser.next(search_trials(run)))
    return search_trials(run)


def test_a_configuration_is_evaluated_once(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", 1)
    worker = worker_of(run)
    *_, first = searched(run, worker, 8)
    SPACE.enqueue(run.study, first.architecture)
    *_, again = searched(run, worker, 1)
    assert (again.reused_from, again.reason) == (first.trial, f"the same as trial {first.trial}")
    assert (again.outcome, again.score, again.latency, again.scores) == (
        first.outcome, first.score, first.latency, first.scores)
    assert (run.path / "ledger").read_text().count(first.config_key or "") == 3, "its three rungs were trained once"


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_a_failure_and_the_search_goes_on(tmp_path: Path, score: float) -> None:
    class Broken(StandIn):
        def score(self, config: FastViTConfig, *, seed: int, checkpoint: Path,
                  on_rung: Callable[[Any], bool]) -> Any:
            return Result(score, 120) if broken else super().score(config, seed=seed, checkpoint=checkpoint,
                                                                   on_rung=on_rung)

    run, broken = begin(tmp_path / "run", 4), False
    worker = worker_of(run, Broken(run, measure_s=0, rung_s=0))
    searched(run, worker, 9)
    broken = True
    *_, failed = searched(run, worker, 1)
    assert failed.outcome == Outcome.FAILED
    assert "which is no number" in (failed.reason or "")
    assert failed.score is None
    assert failed.latency is not None, "what was measured stays"
    broken = False
    *_, good = searched(run, worker_of(Run.open(run.path)), 1)
    assert good.outcome == Outcome.COMPLETE


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_optunas_samplers_go_on_where_the_random_start_ends(tmp_path: Path, sampler: str) -> None:
    run = begin(tmp_path / "run", 0, "--sampler", sampler)
    trials = searched(run, worker_of(run), 20)
    own = [t for t in trials if not t.preset]
    assert [t.outcome for t in trials].count(Outcome.COMPLETE) >= 18
    assert len({t.config_key for t in own}) > 8
    assert all(t.architecture in SPACE for t in own)
    assert all(t.params for t in own), "Optuna's samplers learn from parameters"


def confirmed_by_hand(run: Run, worker: Worker, confirmation: Confirmation, seconds_left: float | None = None,
                      workers: int = 1) -> str:
    said = confirmation.step(idle=True, seconds_left=seconds_left, workers=workers)
    while (waiting := worker.chooser.next_waiting()) is not None:
        worker.run_trial(waiting)
    return said


def quick(monkeypatch: pytest.MonkeyPatch, run: Run, delay_s: float = 0.0) -> list[str]:
    """Second measurements that take `delay_s` and say 1.3 times the first; the keys of what was measured."""
    asked: list[str] = []

    def measure(config: FastViTConfig, device: str, **_: Any) -> Measurement:
        asked.append(config.key())
        time.sleep(delay_s)
        found = StandIn(run, measure_s=0).measure(config)
        return replace(found, latency_ms=1.3 * found.latency_ms, ci_low_ms=1.3 * found.ci_low_ms,
                       ci_high_ms=1.3 * found.ci_high_ms, measured_at="later")

    monkeypatch.setattr("nas.latency.measure", measure)
    return asked


def test_a_run_confirms_its_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "run", 3)
    worker, confirmation = worker_of(run), Confirmation(run, 8)
    asked = quick(monkeypatch, run)
    searched(run, worker, 10)
    assert run.progress.confirming == ConfirmationState.LATER
    said = [confirmed_by_hand(run, worker, confirmation)]
    assert said[0].startswith("confirming")
    assert run.refresh().confirming == ConfirmationState.NOW
    for _ in range(4):
        confirmation.finish()
        said.append(confirmed_by_hand(run, worker, confirmation))
    assert said[-1] == ""
    assert run.refresh().confirming == ConfirmationState.DONE
    trials = search_trials(run)
    confirmed = [t for t in trials if t.confirmed]
    assert {t.preset for t in confirmed} >= {"t8", "s12"}, "presets tell the offsets"
    assert all(len((t.confirmed or t).runs) == 3 for t in confirmed)  # type: ignore[union-attr]
    assert set(asked) <= {t.config_key for t in trials}
    assert all(t.latency and t.latency.sessions == 2 for t in trials if t.config_key in asked)
    assert not confirmation.trouble


def test_seeds_are_queued_one_after_the_other(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", 0)
    trials = searched(run, worker_of(run), 3)
    assert enqueue(run, trials) == 6
    assert enqueue(run, trials) == 0, "they wait already"
    queued = [Request.read(t.user_attrs) for t in run.study.get_trials() if "confirms" in t.user_attrs]
    assert [(one.confirms, one.seed) for one in queued] == [
        (trial.trial, seed) for trial in trials for seed in further_seeds(run.meta)]


def test_more_workers_and_more_time_confirm_more(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", 0)
    worker = worker_of(run)
    trials = [replace(t, cost_s={"proxy": 10.0}) for t in searched(run, worker, 4)]
    confirmation = Confirmation(run, 8)
    count = lambda left, workers: confirmation._affordable(trials, [], left, workers)  # noqa: E731
    parents = parents_seconds(run.meta)  # paid once, whoever trains them
    enough = [count(left, workers) for left, workers in (
        (parents + 60.0, 1), ((parents + 120.0) / 2, 2), (parents + 120.0, 1), (None, 1))]
    assert enough == [3, 6, 6, 8]
    assert count(0.0, 4) == 0


def test_a_measurement_that_the_end_cuts_is_said_and_what_was_measured_stays(tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "run", 0)
    worker, confirmation = worker_of(run), Confirmation(run, 8)
    asked = quick(monkeypatch, run, delay_s=0.4)
    searched(run, worker, 7)
    confirmed_by_hand(run, worker, confirmation)
    while len(asked) < 2:
        time.sleep(0.01)
    confirmation.finish(limit_s=0.0)
    assert "is not in the report" in confirmation.trouble
    assert len(run.attrs()[LATENCY_ATTR]) >= 1, "each session is kept as soon as it is known"
    assert confirmation.measuring is not None
    confirmation.measuring.join()


def test_no_second_measurement_begins_after_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "run", 0)
    worker, confirmation = worker_of(run), Confirmation(run, 8)
    asked = quick(monkeypatch, run, delay_s=0.2)
    for trial in searched(run, worker, 7):
        assert trial.cost_s["proxy"] < 0.1
    confirmation.step(idle=True, seconds_left=0.1, workers=10**6)
    confirmation.finish()
    assert len(asked) <= 1
    assert not confirmation.trouble


def test_a_run_with_a_time_limit_searches_confirms_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's loop in one process: worker and confirmation take turns until the stopwatch says stop."""
    run = begin(tmp_path / "run", 0, "--sampler", "random")
    quick(monkeypatch, run)
    worker, confirmation = worker_of(run), Confirmation(run, 2)
    run.update(seconds_left=60.0, search_seconds_left=0.0)
    thread = threading.Thread(target=worker.loop)
    for trial in range(7):  # the presets, before the search's share is over
        worker.run_trial(worker.chooser.next(search_trials(run)))
        assert trial < 7
    thread.start()
    until = time.monotonic() + 60
    while thread.is_alive():
        assert time.monotonic() < until
        confirmation.step(idle=idle_path(run, "one").exists(), seconds_left=None, workers=1)
        time.sleep(0.02)
    trials = search_trials(run)
    assert not [t for t in trials if not t.preset], "no time was left for searching"
    assert [t for t in trials if t.confirmed]
    assert run.refresh().confirming == ConfirmationState.DONE
