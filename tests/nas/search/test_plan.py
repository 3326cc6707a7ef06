"""Minutes, images, pixels and the machine decide how deep a search on photographs trains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search.plan import AIM, BATCH, BUSY, FEW, LEAST, MOST, MOST_EPOCHS, SHORT, Load, SearchPlan, make_plan, words

CPU, GPU = 1 / 256, 1 / 6000  # seconds that T8 takes an image of 64 px


def plan(minutes: float, *, resolution: int = 256, images: int = 20_000, t8_image_s: float = CPU) -> SearchPlan:
    found = make_plan(60 * minutes, workers=2, resolution=resolution, images=images, t8_image_s=t8_image_s)
    assert found is not None
    return found


def test_more_minutes_go_deeper() -> None:
    short, hour, day = plan(5), plan(30), plan(240)
    assert short.steps < hour.steps < day.steps * (day.pixels / hour.pixels) ** 2
    assert short.pixels == hour.pixels == 64 < day.pixels
    assert short.configurations <= 30
    assert 30 <= day.configurations <= 70


def test_a_large_budget_buys_fewer_steps() -> None:
    small, large = (make_plan(1800, workers=2, resolution=64, images=20_000, t8_image_s=CPU, load=Load.under(ms, 0.8))
                    for ms in (0.4, 3.0))
    assert small is not None
    assert large is not None
    assert (small.steps, small.configurations) > (large.steps, large.configurations)
    assert make_plan(600, workers=2, resolution=64, images=20_000, t8_image_s=CPU, load=Load.under(30, 0.8)) is None
    assert Load.under(0.8, 0.8).presets == 1
    assert Load.under(0.5, 0.8).presets == 0


def test_a_gpu_goes_deeper_in_the_same_minutes() -> None:
    cpu, gpu = plan(30), plan(30, t8_image_s=GPU)
    assert gpu.pixels > cpu.pixels
    assert gpu.steps >= cpu.steps


@given(st.floats(0.1, 3000), st.integers(32, 512), st.integers(20, 10**6), st.floats(1e-5, 0.1), st.integers(1, 16))
def test_every_plan_can_be_carried_out(minutes: float, resolution: int, images: int, speed: float,
                                       workers: int) -> None:
    found = make_plan(60 * minutes, workers=workers, resolution=resolution, images=images, t8_image_s=speed)
    if found is None:  # proxies: too little for whole networks
        assert 60 * minutes * workers < FEW * LEAST * BATCH * speed / BUSY
        return
    assert found.pixels <= resolution
    assert LEAST <= found.steps <= MOST
    assert found.steps <= max(LEAST, MOST_EPOCHS * images // BATCH)
    assert found.configurations >= 1
    if found.configurations > 1:
        assert found.configurations >= FEW
        assert found.configurations * found.seconds <= 60 * minutes * workers
    if found.steps > SHORT:
        assert found.configurations >= AIM - 1


def test_it_is_said_and_kept() -> None:
    found = plan(30)
    said = words(found, 30, 60, 120)
    for part in (f"{found.configurations} configurations", f"{found.steps} steps", "64 px", "30 minutes for the fin"):
        assert part in said
    assert SearchPlan.of(found.to_dict()) == found
    assert SearchPlan.of(None) is None
    unlimited = make_plan(None, workers=1, resolution=64, images=99, t8_image_s=CPU)
    assert unlimited is not None
    assert "every configuration" in words(unlimited, None, None, 120)
    assert "proxies" in words(None, 2, 4, 120)


def test_steps_that_the_user_names_stay() -> None:
    found = make_plan(600, workers=2, resolution=64, images=9999, t8_image_s=CPU, steps=7)
    assert found is not None
    assert found.steps == 7
    with pytest.raises(UsageError, match="--steps 0"):
        make_plan(600, workers=2, resolution=64, images=9999, t8_image_s=CPU, steps=0)
