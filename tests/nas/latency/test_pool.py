"""Several sessions of one network become one latency, and its interval holds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.latency import Measurement
from nas.latency.pool import between_sessions, distinct, pooled


def session(ms: float, sd: float, *, down: float | None = None, at: str = "", flags: tuple[str, ...] = (),
            protocol: str = "warm-1") -> Measurement:
    return Measurement("t8", "key", "onnxruntime", "measured", 64, ms, ms * math.exp(-1.96 * (down or sd)),
                       ms * math.exp(1.96 * sd), measured_at=at, flags=flags, protocol=protocol)


def test_a_single_session_stays_what_it_is() -> None:
    one = session(1.0, 0.02, flags=("busy",))
    found = pooled([one])
    assert (found.latency_ms, found.ci_low_ms, found.ci_high_ms) == pytest.approx(
        (one.latency_ms, one.ci_low_ms, one.ci_high_ms))
    assert found.flags == ("busy",)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.005, 0.2)), min_size=2, max_size=6))
def test_the_estimate_lies_between_its_sessions_and_near_the_precise_ones(values: list[tuple[float, float]]) -> None:
    sessions = [session(ms, sd) for ms, sd in values]
    found = pooled(sessions)
    assert min(ms for ms, _ in values) * 0.999 <= found.latency_ms <= max(ms for ms, _ in values) * 1.001
    widths = [math.log(one.ci_high_ms / one.ci_low_ms) for one in sessions]
    assert math.log(found.ci_high_ms / found.ci_low_ms) <= min(widths) * 1.001
    assert found.sessions == len(values)
    assert pooled(sessions, between=0.1).ci_high_ms > found.ci_high_ms or found.latency_ms != pytest.approx(
        pooled(sessions, between=0.1).latency_ms)


def test_a_disturbed_session_weighs_little_and_its_flag_goes() -> None:
    found = pooled([session(1.4, 0.02, down=0.2, flags=("busy",)), session(1.0, 0.02)])
    assert found.latency_ms < 1.02
    assert found.flags == ()


def test_what_was_reused_and_other_protocols_do_not_count_twice() -> None:
    first, second = session(1.0, 0.02, at="a"), session(1.1, 0.02, at="b")
    old = session(1.4, 0.01, at="0", protocol="interleaved-3")
    assert distinct([old, first, first, second]) == [first, second]


@pytest.mark.parametrize("between", [0.0, 0.03, 0.1])
def test_intervals_hold_when_sessions_differ_more_than_they_know(between: float) -> None:
    """Forty networks of two sessions each: nine in ten intervals of 95 % hold the truth, whatever sessions do."""
    rng = np.random.default_rng(1)
    inside, count, estimates = 0, 0, []
    for _ in range(20):
        truth = rng.uniform(0.5, 5, 40)
        groups = [[session(ms * math.exp(rng.normal(0, math.hypot(0.02, between))), 0.02) for _ in range(2)]
                  for ms in truth]
        estimates.append(between_sessions(groups))
        for ms, sessions in zip(truth, groups, strict=True):
            found = pooled(sessions, estimates[-1])
            inside += found.ci_low_ms <= ms <= found.ci_high_ms
            count += 1
    assert inside / count > 0.9
    assert math.sqrt(np.mean(estimates)) == pytest.approx(between, abs=0.012)


def test_two_sessions_that_agree_say_nothing_more() -> None:
    assert between_sessions([[session(1.0, 0.02), session(1.01, 0.02)]]) == 0.0
    assert between_sessions([[session(1.0, 0.02)]]) == 0.0
