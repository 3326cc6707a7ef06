"""Minutes, images, pixels, the machine and the budget decide how deep a search on photographs trains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.plan import AIM, CONFIGURATIONS, MOST, MOST_EPOCHS, SHORT, Load, SearchPlan, make_plan, words

CPU, GPU = 1 / 256, 1 / 6000  # seconds that T8 takes an image of 64 px


def plan(minutes: float, *, resolution: int = 256, images: int = 20_000, t8_image_s: float = CPU) -> SearchPlan | None:
    return make_plan(60 * minutes, workers=2, resolution=resolution, images=images, t8_image_s=t8_image_s)


def test_more_minutes_go_deeper() -> None:
    assert plan(5) is None
    hours, day = plan(60), plan(600)
    assert hours is not None
    assert day is not None
    assert hours.pixels == 64 < day.pixels
    assert hours.steps < day.steps
    assert AIM <= hours.configurations < 2 * AIM


def test_a_gpu_goes_deeper_in_the_same_minutes() -> None:
    gpu = plan(30, t8_image_s=GPU)
    assert plan(30) is None
    assert gpu is not None
    assert gpu.pixels > 64


@given(st.floats(0.1, 3000), st.integers(32, 512), st.integers(20, 10**6), st.floats(1e-5, 0.1), st.integers(1, 16),
       st.floats(0.1, 60))
def test_every_plan_can_be_carried_out(minutes: float, resolution: int, images: int, speed: float, workers: int,
                                       budget_ms: float) -> None:
    load = Load.under(budget_ms, 0.8)
    found = make_plan(60 * minutes, workers=workers, resolution=resolution, images=images, t8_image_s=speed, load=load)
    if found is None:
        return
    assert found.pixels <= resolution
    assert SHORT <= found.steps <= min(MOST, max(SHORT, MOST_EPOCHS * images // 64))
    assert found.configurations >= AIM - 1
    assert load.of(found.configurations) * found.seconds <= 60 * minutes * workers


def test_a_large_budget_asks_for_more_time() -> None:
    small, large = (make_plan(3600, workers=2, resolution=64, images=20_000, t8_image_s=CPU, load=Load.under(ms, 0.8))
                    for ms in (0.4, 30.0))
    assert small is not None
    assert large is None
    assert Load.under(0.8, 0.8).presets == 1
    assert Load.under(0.5, 0.8).presets == 0


@pytest.mark.parametrize(("minutes", "parts"), [
    (10, (f"up to {CONFIGURATIONS} configurations by proxies", "120 steps", "at most 5 minutes", "for what is left")),
    (240, ("configurations at full width", "64 px", "120 minutes; then 120 minutes for the finalists"))])
def test_it_is_said(minutes: float, parts: tuple[str, ...]) -> None:
    said = words(plan(minutes / 2), minutes / 2, minutes, 120)
    for part in parts:
        assert part in said, said
    assert "finalists" not in words(plan(minutes), minutes, minutes, 120)
    assert "every configuration by proxies" in words(None, None, None, 120)


def test_a_run_keeps_it() -> None:
    found = plan(240)
    assert found is not None
    assert SearchPlan.of(found.to_dict()) == found
    assert SearchPlan.of(None) is None
