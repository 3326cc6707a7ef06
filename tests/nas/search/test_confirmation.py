"""What confirming makes of a run's trials; the loop itself runs in test_search.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastvit import PRESETS
from fastvit.cost import cost
from nas.data import load_task
from nas.estimate.offsets import levels, shipped_levels
from nas.runs.run import TrialRecord
from nas.search.confirmation import SEEDS, fell_off, finalists, fold, movement, update_posterior
from nas.workers.launcher import to_confirm
from space import SearchSpace


def record(trial: int, ms: float, score: float, **more: object) -> TrialRecord:
    config = PRESETS["t8"].replace(depths=(1, 1, 1, 1 + trial % 7))
    latency = {"latency_ms": ms, "ci_low_ms": 0.98 * ms, "ci_high_ms": 1.02 * ms, "origin": "measured"}
    return TrialRecord(**{"trial": trial, "outcome": "complete", "score": score, "score_sd": 0.01, "latency": latency,
                          "config": config.to_dict(), "config_key": config.key(), "seed": 0} | more)


def rungs(score: float) -> list[dict[str, float]]:
    """Of a run that had half of its score after half of its steps."""
    return [{"step": 60, "score": score / 2}, {"step": 120, "score": score}]


def seeds_of(parent: int, *scores: float) -> list[TrialRecord]:
    return [TrialRecord(trial=100 * (parent + 1) + seed, outcome="complete", score=score, scores=rungs(score),
                        confirms=parent, seed=seed)
            for seed, score in enumerate(scores, 1)]


def test_a_confirmed_score_is_the_mean_over_seeds() -> None:
    lucky, solid = record(0, 1.0, 0.9), record(1, 1.0, 0.8)
    found = fold([lucky, solid, *seeds_of(0, 0.6, 0.6), *seeds_of(1, 0.8, 0.8)], {})
    assert [r.trial for r in found] == [0, 1]
    assert [r.estimate[0] for r in found] == pytest.approx([0.7, 0.8])
    assert found[0].score == 0.9, "the first run is kept as it was"
    # Pooled over both: variances 0.03 and 0, of three runs each.
    assert found[0].estimate[1] == found[1].estimate[1] == pytest.approx((0.015 / SEEDS)**0.5)
    assert "0.150 above" in movement(found, 2.0)
    assert "1 fell off" in movement(found, 2.0)
    assert [r.trial for r in fell_off(found, 2.0)] == [0]
    assert not fell_off(found, 0.5), "they were never under it"
    assert movement(found, 0.5) == ""


def test_presets_tell_how_far_a_parent_lifts_all_scores() -> None:
    point, *presets = (record(at, 1.0, score, scores=rungs(score), preset=preset)
                       for at, (score, preset) in enumerate([(0.9, None), (0.5, "t8"), (0.7, "s12")]))
    further = [*seeds_of(0, 1.0, 0.6), *seeds_of(1, 0.61, 0.3), *seeds_of(2, 0.79, 0.5)]  # lifts of 0.1 and -0.2
    found, *anchors = fold([point, *presets, *further], {})
    assert found.confirmed is not None
    assert [run["score"] for run in found.confirmed["runs"]] == pytest.approx([0.9, 0.9, 0.8])
    assert [run["level"] for run in found.confirmed["runs"]] == pytest.approx([0, 0.1, -0.2])
    assert [rung["score"] for rung in found.confirmed["runs"][1]["scores"]] == pytest.approx([0.45, 0.9])
    assert [preset.confirmed["score"] for preset in anchors if preset.confirmed] == pytest.approx([1.51 / 3, 2.09 / 3])
    # Without a preset that was trained again nothing tells what of it is the parent's: the spread holds it.
    alone = fold([point, *seeds_of(0, 1.0, 0.6)], {})[0]
    assert alone.estimate[0] == pytest.approx(2.5 / 3)
    assert alone.estimate[1] > 0.1


def test_levels_need_something_scored_with_both_seeds() -> None:
    scores = [("a", 0, 60, 0.2), ("a", 1, 60, 0.3), ("b", 0, 60, 0.4), ("b", 1, 60, 0.7), ("c", 2, 60, 0.9)]
    assert levels(scores, 0) == pytest.approx({(0, 60): 0, (1, 60): 0.2})


def test_on_images_that_ship_the_table_tells_it() -> None:
    drawn = load_task("builtin").fingerprint
    taken = shipped_levels(drawn, 0)
    point = record(0, 1.0, 0.3, scores=rungs(0.3))
    found = fold([point, *seeds_of(0, 0.3 + taken[1, 120], 0.3 + taken[2, 120])], {}, drawn)[0]
    assert taken[1, 120] != 0
    assert found.estimate == pytest.approx((0.3, 0.0, "confirmed"))


def test_a_missing_seed_confirms_nothing() -> None:
    failed = TrialRecord(trial=9, outcome="failed", confirms=0, seed=2)
    found = fold([record(0, 1.0, 0.9), *seeds_of(0, 0.6), failed], {})
    assert found[0].confirmed is None
    assert found[0].estimate == (0.9, 0.01, "run")


def session(ms: float, **more: Any) -> dict[str, Any]:
    return {"latency_ms": ms, "ci_low_ms": 0.98 * ms, "ci_high_ms": 1.02 * ms, "origin": "measured",
            "measured_at": f"later, {ms}"} | more


def test_one_network_has_one_latency_wherever_it_is_read() -> None:
    one, other = record(0, 1.0, 0.9), record(1, 2.0, 0.8)
    reused = replace(one, trial=2, reused_from=0)
    again = {"confirm_latency": {one.config_key: [session(1.02), session(1.03)]}}
    found = fold([one, other, reused, *seeds_of(0, 0.9, 0.9)], again)
    assert found[0].latency_ms == found[2].latency_ms == pytest.approx((1.0 * 1.02 * 1.03)**(1 / 3), abs=1e-3)
    assert found[0].latency["sessions"] == 3, "what was reused counts once"
    assert found[0].latency["ci_high_ms"] - found[0].latency["ci_low_ms"] < 0.04
    assert found[0].confirmed["latency_before"]["latency_ms"] == 1.0
    assert found[0].point()["latency_ms"] == found[0].row()["latency_ms"] == found[0].latency_ms
    assert found[1].latency_ms == 2.0
    assert fold([one, other], {})[0].latency == one.latency


def test_sessions_that_disagree_widen_every_interval_and_say_what_was_decided_on_another_value() -> None:
    every = [record(number, 1.0 + number, 0.9) for number in range(6)]
    again = {"confirm_latency": {r.config_key: [session((r.latency_ms or 0) * 0.8)] for r in every[:5]}}
    found = fold(every, again)
    assert found[0].latency_ms == pytest.approx(0.894, abs=0.01)
    assert found[0].latency["ci_low_ms"] < 0.8 * 1.05
    assert found[0].latency["ci_high_ms"] > 0.98
    assert found[0].reason == "first measured at 1.000 ms"
    assert found[5].latency_ms == pytest.approx(6.0), "measured once"
    assert found[5].latency["ci_high_ms"] > 6.0 * 1.1
    assert not [r.trial for r in finalists(found, 6.1, 9) if r.trial == 5], "it may well be over the budget"


def test_what_an_earlier_version_confirmed_is_read_as_one_session() -> None:
    one = record(0, 1.0, 0.9)
    found = fold([one], {"confirm_latency": {one.config_key: session(1.01)}})
    assert found[0].latency["sessions"] == 2


def test_the_posterior_is_shown_until_a_trial_is_confirmed() -> None:
    attrs = {"posterior": {"trials": {"0": [0.75, 0.02], "1": [0.7, 0.02]}}}
    found = fold([record(0, 1.0, 0.9), record(1, 1.0, 0.8), *seeds_of(1, 0.8, 0.8)], attrs)
    assert found[0].estimate == (0.75, 0.02, "posterior")
    assert found[1].estimate[2] == "confirmed"


def test_what_one_parent_cannot_tell_is_part_of_the_posterior() -> None:
    """On images of one's own, until something is trained again from other parents."""
    class Kept:
        def __init__(self, fingerprint: str, records: list[TrialRecord]) -> None:
            self.meta = {"task_fingerprint": fingerprint, "steps": 120, "seed": 0}
            self.records = lambda: records
            self.kept: dict[str, Any] = {}

        def set_attr(self, name: str, value: dict[str, Any]) -> None:
            self.kept = value

    rng = np.random.default_rng(0)
    space, own = SearchSpace.load("default"), []
    for at in range(12):
        config = space.sample(rng)
        own.append(replace(record(at, 1.0, 0.5), config=config.to_dict(), config_key=config.key(),
                           scores=rungs(0.3 + 0.1 * np.log(cost(config, 64).gmacs / 0.03))))
    confirmed = [replace(own[0], confirmed={"runs": [{"scores": own[0].scores}] * 3}), *own[1:]]
    sds = []
    for records in (own, confirmed):
        update_posterior(run := Kept("of-a-folder", records))  # type: ignore[arg-type]
        sds.append(np.mean([values[1] for values in run.kept["trials"].values()]))
    spread = np.std([r.scores[-1]["score"] for r in own])
    assert sds[0] >= 0.3 * spread > sds[1]


def test_finalists_are_the_open_points_of_the_front() -> None:
    records = [record(0, 1.0, 0.5), record(1, 1.5, 0.4), record(2, 1.6, 0.9), record(3, 1.99, 0.95),
               record(4, 1.2, 0.99, outcome="stopped_early"), record(5, 1.3, 0.99, outcome="over_budget")]
    assert {r.trial for r in finalists(records, 2.0, 9)} == {0, 2}, "the interval of 1.99 ms reaches over the budget"
    assert [r.trial for r in finalists(records, 2.0, 1)] == [0], "the cheapest point adds most"
    confirmed = fold([*records, *seeds_of(0, 0.5, 0.5)], {})
    assert [r.trial for r in finalists(confirmed, 2.0, 9)] == [2]


@pytest.mark.parametrize(("asked", "minutes", "count"), [(None, None, 8), (None, 60.0, 8), (None, 8.0, 0), (3, 8.0, 3)])
def test_what_is_too_short_for_further_parents_confirms_nothing(
        asked: int | None, minutes: float | None, count: int) -> None:
    own = {"task_fingerprint": "of-a-folder", "steps": 120, "seed": 0}
    assert to_confirm(asked, own, minutes, workers=2) == count
    drawn = own | {"task_fingerprint": load_task("builtin").fingerprint}
    assert to_confirm(None, drawn, 1.0, workers=1) == 8, "its parents ship"
