"""The pick of a run: the rule, its words, and how often it holds where the truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvit.cost import cost, memory_mb
from fastvit.presets import PRESETS
from nas.report.recommendation import (
    SURE,
    Limits,
    delta,
    more_time,
    recommend,
    reference,
    size_mb,
    why_faster,
    worse,
)
from nas.runs.trial import Confirmed, Outcome, Trial
from tests.nas.trials import measured

BUDGET, RESOLUTION, CLASSES = 2.0, 64, 10


def trial(number: int, ms: float, score: float | None, sd: float = 0.01, *, confirmed: bool = True,
          preset: str | None = None, error: float = 0.02, **other: Any) -> Trial:
    config = PRESETS[preset or "t8"]
    size = cost(config, RESOLUTION, CLASSES)
    latency = measured(ms, half_width=error)
    found = Confirmed(score or 0.0, sd, (), latency) if confirmed else None
    return replace(Trial(number, Outcome.COMPLETE, config=config, latency=latency, score=score, score_sd=sd,
                         confirmed=found, params_m=size.params_m, gmacs=size.gmacs, preset=preset), **other)


def pick(records: list[Trial], **asked: Any) -> Any:
    return recommend(records, BUDGET, resolution=RESOLUTION, num_classes=CLASSES, **asked)


def test_the_pick_is_the_best_and_beside_it_stands_the_fastest_that_is_not_worse_beyond_doubt() -> None:
    found = pick([trial(0, 0.8, 0.40), trial(1, 1.2, 0.53), trial(2, 1.9, 0.541), trial(3, 1.5, 0.52)])
    assert (found.pick.trial, found.faster.trial) == (2, 1)
    assert [r.trial for r in found.tied] == [1, 3, 2]
    assert "trial 2: 1.9 ms, 0.541 ± 0.010; no point up to 2 ms is better beyond doubt" in found.headline()
    assert "faster and not distinguishably worse: trial 1, 1.2 ms, 0.530 ± 0.010" in found.headline()
    assert found.notes()[0].startswith("Trial 1 scores -0.011 ± 0.014 beside the pick")
    assert "given up for 37 % less time" in found.notes()[0]
    assert found.document()["faster"] == 1


def test_what_is_not_confirmed_is_no_match_for_what_is() -> None:
    lucky = trial(1, 0.9, 0.60, confirmed=False)
    found = pick([trial(0, 1.2, 0.5), lucky])
    assert found.pick.trial == 0
    assert "Not confirmed, with a higher estimate: trial 1" in " ".join(found.notes())
    alone = pick([lucky])
    assert alone.pick.trial == 1
    assert alone.headline().startswith("trial 1 (not confirmed)")
    assert "probably too good" in " ".join(alone.notes())


@pytest.mark.parametrize("record", [
    trial(9, 1.99, 0.9), trial(9, 1.0, 0.9, outcome=Outcome.STOPPED_EARLY), trial(9, 1.0, 0.9, anchor="timm:x"),
    trial(9, 1.0, None, confirmed=False)], ids=["its interval crosses the budget", "early", "anchor", "no score"])
def test_what_cannot_stand_on_a_front_is_never_the_pick(record: Trial) -> None:
    assert pick([record]) is None
    assert pick([record, trial(0, 1.0, 0.4)]).pick.trial == 0


@pytest.mark.parametrize(("limits", "expected"), [
    (Limits(), 1), (Limits(least_score=0.52), 1), (Limits(least_score=0.9), None),
    (Limits(most_params_m=3.5), 0), (Limits(most_params_m=1.0), None),
    (Limits(most_size_mb=size_mb(PRESETS["t8"], CLASSES) + 0.01), 0), (Limits(most_size_mb=1.0), None),
    (Limits(most_memory_mb=memory_mb(PRESETS["t8"], RESOLUTION, CLASSES) + 0.01), 0),
    (Limits(most_memory_mb=1.0), None), (Limits(most_iphone_ms=1.0), 0), (Limits(most_iphone_ms=0.1), None)])
def test_a_limit_chooses(limits: Limits, expected: int | None) -> None:
    records = [trial(0, 1.0, 0.515), trial(1, 1.6, 0.53, preset="t12")]
    found = pick(records, limits=limits)
    assert (None if found is None else found.pick.trial) == expected
    if found is not None and limits:
        assert limits.words() in found.reason()


def test_a_preset_stands_beside_what_the_reader_asks_for() -> None:
    records = [trial(0, 1.0, 0.43, preset="t8"), trial(1, 1.7, 0.47, preset="t12"), trial(2, 3.0, 0.48, preset="s12"),
               trial(3, 1.1, 0.528)]
    assert {name: (reference(records, BUDGET, records[3], name) or records[3]).preset
            for name in ("largest", "nearest", "s12", "ma36")} == {
        "largest": "t12", "nearest": "t8", "s12": "s12", "ma36": None}
    found = pick(records, against="t8")
    assert found.delta.figures == "+10 % time, score +0.098 ± 0.014"
    close = delta(trial(5, 1.01, 0.44), records[0])
    assert "the intervals overlap" in close.figures
    assert "within doubt" in close.figures


def test_more_time_follows_the_front_and_says_how_surely() -> None:
    curve = [trial(i, ms, 0.5 + 0.05 * np.log(ms)) for i, ms in enumerate((0.5, 0.7, 1.0, 1.4, 1.9))]
    gains = more_time(curve)
    assert [g.score for g in gains] == pytest.approx([0.05 * np.log(1.1)] * 4, abs=1e-6)  # none from the slowest on
    assert all(g.score_sd > 0 for g in gains)
    assert "10 % more time buys a score of" in pick(curve).more_time()
    assert more_time(curve[:2]) == []
    noisy = [trial(i, 0.5 * 1.4**i, 0.5 + 0.1 * (i % 2)) for i in range(6)]  # a curve misses these
    assert min(g.score_sd for g in more_time(noisy)) > 2 * min(g.score_sd for g in gains)


def test_where_the_time_goes_is_said() -> None:
    assert why_faster(PRESETS["t8"], PRESETS["t8"], 64) == ""
    assert "in stage 3" in why_faster(PRESETS["t8"].replace(depths=(2, 2, 1, 2)), PRESETS["t8"], 64)


points = st.lists(st.tuples(st.floats(0.1, 3), st.floats(0, 1), st.floats(0.001, 0.05), st.booleans()), min_size=1,
                  max_size=12)


@given(points)
@settings(max_examples=60, deadline=None)
def test_no_point_is_better_than_the_pick_and_none_that_ties_is_faster_than_the_one_beside_it(found: list[Any]) -> None:
    records = [trial(i, ms, score, sd, confirmed=sure) for i, (ms, score, sd, sure) in enumerate(found)]
    chosen = pick(records)
    under = [r for r in records if r.latency and r.latency.ci_high_ms <= BUDGET]
    assert (chosen is None) == (not under)
    if chosen is None:
        return
    rivals = [r for r in under if r.confirmed] or under
    fastest = chosen.faster or chosen.pick
    assert not worse(fastest, chosen.pick)
    assert all(r.estimate.value <= chosen.pick.estimate.value for r in rivals)
    assert all(worse(r, chosen.pick) for r in rivals if (r.latency_ms or 0) < (fastest.latency_ms or 0))
    assert chosen.document()["trial"] == chosen.pick.trial


def test_the_tied_hold_the_truly_best_nearly_always() -> None:
    """Of eight points whose scores differ by what their errors are, the truly best is among the tied."""
    rng, held, alone = np.random.default_rng(0), 0, 0
    for _ in range(400):
        truth = rng.normal(0.5, 0.015, 8)
        seen = truth + rng.normal(0, 0.01, 8)
        found = pick([trial(i, 1 + 0.1 * i, score) for i, score in enumerate(seen)])
        held += int(np.argmax(truth)) in [r.trial for r in found.tied]
        alone += int(np.argmax(seen)) == int(np.argmax(truth))  # the dumbest rule: take the highest score
    assert held / 400 > 0.95
    assert alone / 400 < 0.8
    assert SURE == 2
