"""What confirming makes of a run's trials; the loop itself runs in test_search.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastvit import PRESETS
from fastvit.cost import cost
from nas.data import load_task
from nas.estimate.offsets import seed_offsets, shipped_offsets
from nas.runs.measurement import Measurement
from nas.runs.trial import Confirmed, Estimate, Outcome, Rung, SeedRun, Source, Trial
from nas.search.confirmation import finalists, update_posterior
from nas.search.confirmed import with_confirmations as fold
from nas.search.front import fell_off, movement
from nas.workers.launcher import to_confirm
from space import SearchSpace
from tests.nas.trials import measured, meta


def record(trial: int, ms: float, score: float, **more: Any) -> Trial:
    config = PRESETS["t8"].replace(depths=(1, 1, 1, 1 + trial % 7))
    own = Trial(trial, Outcome.COMPLETE, score=score, score_sd=0.01, latency=measured(ms, half_width=0.02),
                config=config, seed=0)
    return replace(own, **more)


def rungs(score: float) -> tuple[Rung, ...]:
    """Of a run that had half of its score after half of its steps."""
    return Rung(60, score / 2), Rung(120, score)


def seeds_of(parent: int, *scores: float) -> list[Trial]:
    return [Trial(100 * (parent + 1) + seed, Outcome.COMPLETE, score=score, scores=rungs(score), confirms=parent,
                  seed=seed) for seed, score in enumerate(scores, 1)]


def shown(trial: Trial) -> Estimate:
    assert trial.estimate is not None
    return trial.estimate


def test_the_run_that_was_chosen_does_not_confirm_itself() -> None:
    lucky, solid = record(0, 1.0, 0.9), record(1, 1.0, 0.8)
    found = fold([lucky, solid, *seeds_of(0, 0.6, 0.6), *seeds_of(1, 0.8, 0.8)], {})
    assert [r.trial for r in found] == [0, 1]
    assert [shown(r).value for r in found] == pytest.approx([0.6, 0.8])
    other = fold([replace(lucky, score=0.99), solid, *seeds_of(0, 0.6, 0.6), *seeds_of(1, 0.8, 0.8)], {})
    assert [shown(r) for r in other] == [shown(r) for r in found]
    assert found[0].score == 0.9, "the first run is kept as it was"
    assert shown(found[0]).sd == pytest.approx(shown(found[1]).sd)
    assert "0.150 above" in movement(found, 2.0)
    assert "1 fell off" in movement(found, 2.0)
    assert [r.trial for r in fell_off(found, 2.0)] == [0]
    assert not fell_off(found, 0.5), "they were never under it"
    assert movement(found, 0.5) == ""


def test_presets_tell_how_far_a_parent_lifts_all_scores() -> None:
    presets = [record(at, 1.0, 0.5 + at / 50, scores=rungs(0.5 + at / 50), preset="t8") for at in range(1, 7)]
    lifted = [run for preset in presets for run in seeds_of(
        preset.trial, (preset.score or 0.0) + 0.1, (preset.score or 0.0) - 0.2)]
    point, further = record(0, 1.0, 0.9, scores=rungs(0.9)), seeds_of(0, 1.0, 0.6)
    found, *anchors = fold([point, *presets, *further, *lifted], {})
    assert found.confirmed is not None
    assert [run.offset for run in found.confirmed.runs] == pytest.approx([0, 0.1, -0.2], abs=0.01)
    assert shown(found).value == pytest.approx(0.85, abs=0.01)
    # A rung's offset is that of its own steps: half of it here, after half of the steps.
    assert [rung.score for rung in found.confirmed.runs[1].scores] == pytest.approx([0.45, 0.9], abs=0.01)
    assert [shown(one).value for one in anchors] == pytest.approx([one.score for one in presets], abs=0.01)
    # Without a preset that was trained again nothing tells what of it is the parent's: the interval holds it.
    alone = fold([point, *further], {})[0]
    assert shown(alone).value == pytest.approx(0.8)
    assert (shown(alone).sd or 0.0) > 2 * (shown(found).sd or 0.0)


def test_offsets_need_something_scored_with_both_seeds() -> None:
    scores = [(item, seed, 60, value) for item in range(20) for seed, value in ((0, 0.2), (1, 0.3))]
    found = seed_offsets([*scores, ("alone", 2, 60, 0.9), ("alone", 2, 120, 0.9)], 0)
    assert set(found) == {(0, 60), (1, 60)}
    assert found == pytest.approx({(0, 60): 0.0, (1, 60): 0.1}, abs=0.001)


def test_on_images_that_ship_the_table_tells_it() -> None:
    drawn = load_task("builtin").fingerprint
    taken = shipped_offsets(drawn, 0)
    point = record(0, 1.0, 0.3, scores=rungs(0.3))
    again = seeds_of(0, 0.3 + taken[1, 120], 0.3 + taken[2, 120])
    found, unaided = fold([point, *again], {}, drawn)[0], fold([point, *again], {})[0]
    assert abs(taken[1, 120]) > 0.005
    assert shown(found).value == pytest.approx(0.3, abs=0.001)
    assert (shown(found).sd or 0.0) < 0.8 * (shown(unaided).sd or 0.0)


def test_a_missing_seed_confirms_nothing() -> None:
    failed = Trial(9, Outcome.FAILED, confirms=0, seed=2)
    found = fold([record(0, 1.0, 0.9), *seeds_of(0, 0.6), failed], {})
    assert found[0].confirmed is None
    assert found[0].estimate == Estimate(0.9, 0.01, Source.RUN)


def session(ms: float) -> dict[str, Any]:
    return replace(measured(ms, half_width=0.02), measured_at=f"later, {ms}").to_dict()


def latency(trial: Trial) -> Measurement:
    assert trial.latency is not None
    return trial.latency


def test_one_network_has_one_latency_wherever_it_is_read() -> None:
    one, other = record(0, 1.0, 0.9), record(1, 2.0, 0.8)
    reused = replace(one, trial=2, reused_from=0)
    again = {"confirm_latency": {one.config_key: [session(1.02), session(1.03)]}}
    found = fold([one, other, reused, *seeds_of(0, 0.9, 0.9)], again)
    assert found[0].latency_ms == found[2].latency_ms == pytest.approx((1.0 * 1.02 * 1.03)**(1 / 3), abs=1e-3)
    assert latency(found[0]).sessions == 3, "what was reused counts once"
    assert latency(found[0]).ci_high_ms - latency(found[0]).ci_low_ms < 0.04
    assert found[0].confirmed is not None
    assert found[0].confirmed.latency_before == one.latency
    assert found[0].point()["latency_ms"] == found[0].row()["latency_ms"] == found[0].latency_ms
    assert found[1].latency_ms == 2.0
    assert fold([one, other], {})[0].latency == one.latency


def test_sessions_that_disagree_widen_every_interval_and_say_what_was_decided_on_another_value() -> None:
    every = [record(number, 1.0 + number, 0.9) for number in range(6)]
    again = {"confirm_latency": {r.config_key: [session((r.latency_ms or 0) * 0.8)] for r in every[:5]}}
    found = fold(every, again)
    assert found[0].latency_ms == pytest.approx(0.894, abs=0.01)
    assert latency(found[0]).ci_low_ms < 0.8 * 1.05
    assert latency(found[0]).ci_high_ms > 0.98
    assert found[0].reason == "first measured at 1.000 ms"
    assert found[5].latency_ms == pytest.approx(6.0), "measured once"
    assert latency(found[5]).ci_high_ms > 6.0 * 1.1
    assert not [r.trial for r in finalists(found, 6.1, 9) if r.trial == 5], "it may well be over the budget"


def test_what_an_earlier_version_confirmed_is_read_as_one_session() -> None:
    one = record(0, 1.0, 0.9)
    found = fold([one], {"confirm_latency": {one.config_key: session(1.01)}})
    assert latency(found[0]).sessions == 2


def test_what_no_version_wrote_is_passed_over() -> None:
    one = record(0, 1.0, 0.9)
    for damaged in (7, [], {one.config_key: 7}, {one.config_key: [{"latency_ms": "x"}, None]}):
        assert fold([one], {"confirm_latency": damaged, "posterior": damaged}) == [one]
    for damaged in ({"0": 7}, {"0": ["a", 1]}, {"x": [1, 2]}, {"0": [float("nan"), 1.0]}, [1], None):
        assert fold([one], {"posterior": {"trials": damaged}})[0].posterior is None


def test_the_posterior_is_shown_until_a_trial_is_confirmed() -> None:
    attrs = {"posterior": {"trials": {"0": [0.75, 0.02], "1": [0.7, 0.02]}}}
    found = fold([record(0, 1.0, 0.9), record(1, 1.0, 0.8), *seeds_of(1, 0.8, 0.8)], attrs)
    assert found[0].estimate == Estimate(0.75, 0.02, Source.POSTERIOR)
    assert shown(found[1]).source == Source.CONFIRMED


def test_what_one_parent_cannot_tell_is_part_of_the_posterior() -> None:
    """On images of one's own, until something is trained again from other parents."""
    class Kept:
        def __init__(self, fingerprint: str, records: list[Trial]) -> None:
            self.meta = meta(task="builtin", task_fingerprint=fingerprint)
            self.trials, self.attrs = lambda: records, dict
            self.kept: dict[str, Any] = {}

        def set_attr(self, name: str, value: dict[str, Any]) -> None:
            self.kept = value

    rng = np.random.default_rng(0)
    space, own = SearchSpace.load("default"), []
    for at in range(12):
        config = space.sample(rng)
        score = 0.3 + 0.1 * float(np.log(cost(config, 64).gmacs / 0.03))
        own.append(replace(record(at, 1.0, 0.5), config=config, scores=rungs(score)))
    again = Confirmed(0.5, 0.0, (SeedRun(0, 0.5, 0.0, own[0].scores),) * 3)
    confirmed = [replace(own[0], confirmed=again), *own[1:]]
    sds = []
    for records in (own, confirmed):
        update_posterior(run := Kept("of-a-folder", records))  # type: ignore[arg-type]
        sds.append(np.mean([values[1] for values in run.kept["trials"].values()]))
    spread = np.std([r.scores[-1].score for r in own])
    assert sds[0] >= 0.3 * spread > sds[1]


def test_finalists_are_the_open_points_of_the_front() -> None:
    records = [record(0, 1.0, 0.5), record(1, 1.5, 0.4), record(2, 1.6, 0.9), record(3, 1.99, 0.95),
               record(4, 1.2, 0.99, outcome=Outcome.STOPPED_EARLY), record(5, 1.3, 0.99, outcome=Outcome.OVER_BUDGET)]
    assert {r.trial for r in finalists(records, 2.0, 9)} == {0, 2}, "the interval of 1.99 ms reaches over the budget"
    assert [r.trial for r in finalists(records, 2.0, 1)] == [0], "the cheapest point adds most"
    confirmed = fold([*records, *seeds_of(0, 0.5, 0.5)], {})
    assert [r.trial for r in finalists(confirmed, 2.0, 9)] == [2]


@pytest.mark.parametrize(("asked", "minutes", "count"), [(None, None, 8), (None, 60.0, 8), (None, 8.0, 0), (3, 8.0, 3)])
def test_what_is_too_short_for_further_parents_confirms_nothing(
        asked: int | None, minutes: float | None, count: int) -> None:
    own = meta()
    assert to_confirm(asked, own, minutes, workers=2) == count
    drawn = meta(task_fingerprint=load_task("builtin").fingerprint)
    assert to_confirm(None, drawn, 1.0, workers=1) == 8, "its parents ship"
