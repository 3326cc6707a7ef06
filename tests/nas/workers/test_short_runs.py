"""Which of the given networks are trained within a time, and how long each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas.search.plan import BATCH, MOST
from nas.workers.short_runs import LEAST, plan_short_runs, spread_out

T8_IMAGE_S = 1 / 256
SIZES = [0.011, 0.026, 0.044, 0.088, 0.12, 0.35]


def test_more_time_trains_all_and_longer() -> None:
    one, ten, hour = (plan_short_runs(SIZES, 60 * minutes, workers=2, resolution=64, images=20_000,
                                      t8_image_s=T8_IMAGE_S) for minutes in (1, 10, 60))
    assert len(one.chosen) < len(ten.chosen) == len(SIZES) == len(hour.chosen)
    assert one.steps == LEAST < ten.steps < hour.steps <= MOST


@given(st.lists(st.floats(0.005, 2), min_size=1, max_size=40), st.floats(1, 20_000), st.integers(1, 8))
def test_it_ends_in_time(gmacs: list[float], seconds: float, workers: int) -> None:
    found = plan_short_runs(gmacs, seconds, workers=workers, resolution=256, images=5000, t8_image_s=T8_IMAGE_S)
    took = sum(BATCH * found.steps * T8_IMAGE_S * gmacs[i] / 0.0436 for i in found.chosen)
    assert took <= 1.01 * seconds * workers
    assert len(set(found.chosen)) == len(found.chosen)


@given(st.lists(st.floats(-5, 5), max_size=30))
def test_every_beginning_covers_the_range(values: list[float]) -> None:
    order = spread_out(values)
    assert sorted(order) == list(range(len(values)))
    if len(values) >= 7:
        ranks = [sorted(range(len(values)), key=lambda i: values[i]).index(index) for index in order[:3]]
        assert min(ranks) < len(values) / 3 < 2 * len(values) / 3 - 1 < max(ranks) + 1
