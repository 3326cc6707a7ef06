"""Which networks are trained at full width, on how many images."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvit import PRESETS
from nas.proxy.full_recipe import BATCH, work_share
from nas.runs.measurement import Measurement, Origin
from nas.runs.trained import Trained
from nas.runs.trial import Outcome, Trial
from nas.search.confirmed import with_confirmations
from nas.search.front import front_of
from nas.search.full_plan import ENOUGH, FEWEST, LEAST, candidates, makespan, plan


def record(trial: int, *, preset: str | None = None, same_as: int | None = None, gmacs: float = 0.1, ms: float = 1.0,
           **more: Any) -> Trial:
    config = PRESETS["t8"].replace(depths=(1, 1, 1, 1 + (trial if same_as is None else same_as)))
    latency = Measurement("", config.key(), "cpu", Origin.MEASURED, 64, ms, ms, ms)
    return Trial(trial, Outcome.COMPLETE, preset=preset, gmacs=gmacs, config=config, score=0.1, score_sd=0.01,
                 latency=latency, **more)


def trained(trial: int, hits: int, images: int = 1000) -> Trained:
    return Trained(trial, hits, images, "1000 validation images", 6400, 64, 64, "random weights", 10.0, {})


def test_the_largest_preset_under_each_budget_comes_first_then_the_best_by_the_estimate() -> None:
    found = [record(0, preset="t8", gmacs=0.04, ms=0.5), record(1, preset="t12", gmacs=0.09, ms=1.5),
             record(2, ms=0.4), record(3, ms=0.9), record(4, ms=1.4), record(5, preset="sa36", gmacs=0.5, ms=9)]
    score = {0: 0.5, 1: 0.6, 2: 0.4, 3: 0.55, 4: 0.58, 5: 0.9}
    under = {2.0: {0, 1, 2, 3, 4}, 1.0: {0, 2, 3}}
    wanted = candidates(found, [1.0, 2.0], score, under)
    assert wanted[:4] == [1, 4, 0, 3]
    assert sorted(wanted) == [0, 1, 2, 3, 4]


def test_one_network_is_trained_once_whatever_it_is_called() -> None:
    found = [record(0, preset="t8", gmacs=0.04), record(1, same_as=0), record(2)]
    assert candidates(found, [2.0], {0: 0.5, 1: 0.5, 2: 0.4}, {2.0: {0, 1, 2}}) == [0, 2]


@given(costs=st.lists(st.floats(1e-3, 0.1), min_size=1, max_size=12), seconds=st.floats(10, 1e6),
       workers=st.integers(1, 8), resolution=st.sampled_from([32, 64, 96, 256]), epoch=st.integers(100, 100_000),
       most=st.integers(1, 10))
def test_a_plan_keeps_its_time_and_always_holds_what_is_wanted_most(
        costs: list[float], seconds: float, workers: int, resolution: int, epoch: int, most: int) -> None:
    cost = dict(enumerate(costs))
    made = plan(list(cost), cost, seconds=seconds, workers=workers, resolution=resolution, epoch_images=epoch,
                most=most)
    fewest = min(FEWEST, len(costs), most)
    if made is None:
        smallest = min([side for side in (64,) if side < resolution] or [resolution])
        spent = makespan(costs[:fewest], workers) * work_share(smallest, resolution)
        assert min(seconds / spent, 300 * epoch) < LEAST + BATCH
        return
    assert made.seconds <= seconds * 1.001
    assert set(range(len(made.trials))) == set(made.trials)
    assert fewest <= len(made.trials) <= most
    assert made.images >= LEAST
    assert made.images % BATCH == 0
    assert made.pixels <= resolution
    if len(made.trials) > fewest:
        assert made.images >= ENOUGH - BATCH
    assert [cost[t] for t in made.trials] == sorted((cost[t] for t in made.trials), reverse=True)


def test_more_minutes_buy_more_pixels_then_more_images_and_networks() -> None:
    cost = dict.fromkeys(range(8), 0.06)
    kwargs: dict[str, Any] = {"workers": 2, "resolution": 256, "epoch_images": 3000}
    plans = [plan(list(cost), cost, seconds=60 * minutes, **kwargs) for minutes in (5, 30, 240, 2400)]
    assert all(plans)
    assert [p.pixels for p in plans] == sorted(p.pixels for p in plans)  # type: ignore[union-attr]
    assert plans[0].pixels < plans[-1].pixels == 256  # type: ignore[union-attr]
    assert len(plans[-1].trials) == 8  # type: ignore[union-attr]


def test_a_run_that_goes_on_trains_by_its_first_recipe() -> None:
    cost = dict.fromkeys(range(8), 0.01)
    made = plan(list(cost), cost, seconds=2000, workers=2, resolution=64, epoch_images=10_000, images=64_000, pixels=64)
    assert made is not None
    assert (made.images, len(made.trials)) == (64_000, 6)
    assert plan(list(cost), cost, seconds=500, workers=2, resolution=64, epoch_images=10_000, images=64_000,
                pixels=64) is None


def test_a_trained_network_is_one_trial_with_its_own_unit() -> None:
    found = with_confirmations([record(0, ms=1.0), record(1, ms=2.0), record(2, trains=0, full=trained(2, 700)),
                  Trial(3, Outcome.FAILED, trains=1, reason="diverged")], {})
    assert [r.trial for r in found] == [0, 1]
    point = found[0].point()
    assert (point["score"], point["unit"], point["trained"], point["estimated_score"]) == (0.7, "top-1", True, 0.1)
    assert point["top1_low"] < 0.7 < point["top1_high"]
    assert found[0].row()["score"] == 0.1  # a table's column is of one unit
    assert (found[1].point()["unit"], found[1].point()["trained"]) == ("proxy score", False)


def test_a_front_of_trained_networks_holds_nothing_else() -> None:
    estimated = record(0, ms=0.9, trained=None)
    better = record(1, ms=1.0, trained=trained(5, 700))
    worse = record(2, ms=1.1, trained=trained(6, 690))
    assert [r.trial for r in front_of([estimated, better, worse], 2.0)] == [1]
    assert [r.trial for r in front_of([estimated], 2.0)] == [0]


@pytest.mark.parametrize(("hits", "images"), [(0, 50), (37, 50), (50, 50), (7000, 10_000)])
def test_wilson_s_interval_holds_what_it_says(hits: int, images: int) -> None:
    import numpy as np

    low, high = trained(0, hits, images).interval()
    assert 0 <= low <= hits / images <= high <= 1
    if 0 < hits < images:
        rng = np.random.default_rng(0)
        drawn = rng.binomial(images, hits / images, 400)
        covered = [lo <= hits / images <= hi for lo, hi in (trained(0, int(k), images).interval() for k in drawn)]
        assert 0.91 < np.mean(covered) <= 1
