"""When a worker stops, whatever the clocks of the machines say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nas.runs.run import Run
from nas.runs.trial import Outcome, Trial
from nas.workers.limits import Countdown, Limits
from tests.nas.trials import meta


def test_between_two_readings_this_process_counts_on() -> None:
    now = 100.0
    countdown = Countdown(lambda: now)
    assert countdown.left(60.0) == 60.0
    now += 25
    assert countdown.left(60.0) == 35.0, "the launcher has not spoken since"
    assert countdown.left(40.0) == 40.0
    now += 50
    assert countdown.left(40.0) == -10.0, "a launcher that fell silent does not keep a worker for ever"
    assert countdown.left(None) is None


def test_no_clock_that_is_set_ends_or_prolongs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run", meta())
    run.update(seconds_left=100.0, search_seconds_left=100.0)
    limits, spent = Limits(run), [Trial(0, Outcome.COMPLETE, score=0.5, cost_s={"proxy": 30.0})]
    for jump in (-1e6, 0.0, 1e6):  # an hour back, another host, a year ahead
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        assert not limits.should_stop(spent)
        assert not limits.searched_enough(spent)
    run.update(search_seconds_left=20.0)
    assert not limits.should_stop(spent)
    assert limits.searched_enough(spent), "a usual trial would not end in time"
    run.update(seconds_left=20.0)
    assert limits.should_stop(spent)


def test_a_limit_on_trials_and_a_word_end_a_search(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", meta())
    limits = Limits(run)
    run.update(trial_limit=2)
    limits.should_stop([])
    assert not limits.searched_enough([Trial(0), Trial(1, preset="t8")]), "presets do not count"
    assert limits.searched_enough([Trial(0), Trial(1)])
    run.tell_to_stop()
    assert limits.should_stop([])
