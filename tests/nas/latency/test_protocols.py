"""The protocols on sessions whose truth is known: a clock that only they move."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.latency import protocols, warm
from nas.latency.protocols import interleave, median_interval, precise, warm_up
from nas.latency.warm import Blocks, steady


class Clock:
    """Seconds since the beginning, and those of them that threads waited for a core."""

    now_s, waited_s = 0.0, 0.0

    def perf_counter(self) -> float:
        return self.now_s


class Fake:
    """A network of `ms` an inference times what `mood` says of a moment. After other networks its first inference is
    `cold` times slower; `waits` is the share of the wall that it has no core, and each such block is a tenth slower."""

    def __init__(self, clock: Clock, ms: float, *, mood: Callable[[float], float] = lambda now_s: 1.0,
                 waits: Callable[[float], float] = lambda now_s: 0.0, cold: float = 1.0, noise: float = 0.0,
                 isolated: bool = False) -> None:
        self.clock, self.ms, self.mood, self.cold, self.waits = clock, ms, mood, cold, waits
        self.noise, self.isolated, self.rng = noise, isolated, np.random.default_rng(7)
        self.calls = 0

    last: "Fake | None" = None

    def block(self, repeats: int) -> float:
        share = self.waits(self.clock.now_s)
        spent = 1e-3 * self.ms * repeats * self.mood(self.clock.now_s) * (1.1 if share else 1.0)
        spent *= float(np.exp(self.rng.normal(0, self.noise)))
        if Fake.last is not self:
            spent += 1e-3 * self.ms * (self.cold - 1)
        Fake.last = self
        self.calls += repeats
        wall = spent / (1 - share)
        self.clock.now_s += wall
        self.clock.waited_s += wall - spent
        return spent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()

    class Noise:
        waited = 0.0

        def __enter__(self) -> "Noise":
            self.before = found.now_s, found.waited_s
            return self

        def __exit__(self, *_: object) -> None:
            self.waited = (found.waited_s - self.before[1]) / (found.now_s - self.before[0])

    for module in (protocols, warm):
        monkeypatch.setattr(module, "Noise", Noise)
        monkeypatch.setattr(module.time, "perf_counter", found.perf_counter)
    return found


@pytest.mark.parametrize("ms", [0.2, 1.0, 15.0, 200.0])
def test_the_warm_loop_of_a_steady_network_is_its_time(clock: Clock, ms: float) -> None:
    found = steady(Fake(clock, ms, cold=5.0, noise=0.01), Fake(clock, 1.0, cold=5.0))
    middle, low, high = found.network.estimate()
    assert middle == pytest.approx(ms, rel=0.01), "cold inferences at the beginning of a phase do not count"
    assert low < ms < high
    assert high - low < 0.1 * ms
    assert found.reference.estimate()[0] == pytest.approx(1.0, rel=0.01)
    assert clock.now_s < 1.0 + 20e-3 * ms, "the device is not held for longer than it takes"


def test_blocks_that_waited_for_a_core_do_not_count(clock: Clock) -> None:
    found = steady(Fake(clock, 1.0, waits=lambda now_s: 0.5 * (int(37 * now_s) % 3 > 0)), Fake(clock, 1.0))
    assert 0.2 < np.mean(np.array(found.network.waited) > 0.02) < 0.95
    assert found.network.estimate()[0] == pytest.approx(1.0, rel=0.005)


def test_a_network_that_never_has_the_core_for_itself_says_so(clock: Clock) -> None:
    quiet = steady(Fake(clock, 1.0), Fake(clock, 1.0)).network.estimate()
    found = steady(Fake(clock, 1.0, waits=lambda now_s: 0.5), Fake(clock, 1.0)).network.estimate()
    assert found[1] < 1.0 < found[0]
    assert found[0] - found[1] > 3 * (quiet[0] - quiet[1]), "it may be slower than it would be alone, and not faster"


def test_others_widen_the_interval_downwards() -> None:
    blocks = Blocks([1.0, 1.01] * 20, [0.0] * 40)
    alone, beside = blocks.estimate(), blocks.estimate(others=0.5)
    assert beside[0] == alone[0]
    assert beside[2] == alone[2]
    assert beside[1] < alone[1]


def test_of_two_moods_it_takes_the_faster(clock: Clock) -> None:
    """Half of the time 20 % slower, without anybody waiting: other work on shared caches."""
    moody = Fake(clock, 1.0, mood=lambda now_s: 1.0 + 0.2 * (int(20 * now_s) % 2), noise=0.005)
    found = steady(moody, Fake(clock, 1.0))
    assert found.network.estimate()[0] == pytest.approx(1.0, rel=0.02)


def test_what_is_far_over_the_budget_ends_early_and_what_is_not_goes_on(clock: Clock) -> None:
    over, under = Fake(clock, 3.0, noise=0.01), Fake(clock, 3.0, noise=0.01)
    assert steady(over, Fake(clock, 1.0), budget_ms=2.0).flags == ("early",)
    assert steady(under, Fake(clock, 1.0), budget_ms=3.0).flags == ()
    assert over.calls < under.calls / 2


def test_a_wide_interval_takes_less_time(clock: Clock) -> None:
    usual, wide = Fake(clock, 1.0), Fake(clock, 1.0)
    steady(usual, Fake(clock, 1.0))
    steady(wide, Fake(clock, 1.0), half_width=0.06)
    assert wide.calls < 0.8 * usual.calls


def test_calls_that_are_far_apart_are_single(clock: Clock) -> None:
    found = steady(Fake(clock, 1.0, isolated=True), Fake(clock, 1.0, isolated=True))
    assert len(found.network.ms) >= warm.LEAST_BLOCKS


@pytest.mark.parametrize("drift", [lambda now_s: 1.0, lambda now_s: 1.0 + 0.3 * now_s,
                                   lambda now_s: 1.0 + 0.5 * (int(7 * now_s) % 2)])
def test_interleaved_ratios_hold_still_while_the_machine_drifts_or_has_two_moods(
        clock: Clock, drift: Callable[[float], float]) -> None:
    rng = np.random.default_rng(0)
    inside: dict[str, int] = {"precise": 0, "40 rounds": 0}
    stops = {"precise": precise("cpu", 0.01), "40 rounds": lambda samples: len(samples.reference_ms) >= 40}
    for stop, enough in stops.items():
        for _ in range(10):
            trials = [Fake(clock, ms, mood=drift, noise=0.02) for ms in (0.5, 1.0, 4.0)]
            reference = Fake(clock, 2.0, mood=drift, noise=0.02)
            for session in (*trials, reference):
                session.rng = rng
            found = interleave(trials, reference, enough=enough, rng=rng, cap_s=5.0)
            for index, truth in enumerate((0.25, 0.5, 2.0)):
                ratio, low, high = found.ratio(index, "cpu")
                assert ratio == pytest.approx(truth, rel=0.03)
                inside[stop] += low <= truth <= high
    assert inside["40 rounds"] >= 24, "of 30 intervals of 95 %, of which three share a reference"
    assert inside["precise"] >= 20, "of 30 intervals that ended when they were narrow"


def test_interleaving_ends_when_it_is_precise_or_capped(clock: Clock) -> None:
    rng = np.random.default_rng(0)
    exact = interleave([Fake(clock, 1.0)], Fake(clock, 1.0), enough=precise("cpu", 0.01), rng=rng)
    assert len(exact.reference_ms) == protocols.MIN_ROUNDS
    assert exact.flags == ()
    rough = interleave([Fake(clock, 1.0, noise=0.5)], Fake(clock, 1.0), enough=precise("cpu", 0.01), rng=rng, cap_s=1.0)
    assert rough.flags == ("capped",)


def test_warming_up_ends_when_times_agree_or_at_the_limit(clock: Clock) -> None:
    falling = Fake(clock, 10.0, mood=lambda now_s: 1.0 + 20.0 * max(0.0, 0.2 - now_s))
    assert warm_up(falling, limit_s=2.0) == pytest.approx(0.01, rel=0.1)
    restless = Fake(clock, 10.0, noise=1.0)
    begun = clock.now_s
    warm_up(restless, limit_s=0.5)
    assert clock.now_s - begun < 1.5


@pytest.mark.parametrize("count", [1, 5, 6, 40])
def test_the_median_and_its_interval_hold_for_any_shape(count: int) -> None:
    rng = np.random.default_rng(count)
    inside = 0
    for _ in range(100):
        middle, low, high = median_interval(rng.lognormal(0, 1, count))
        assert low <= middle <= high
        inside += low <= 1.0 <= high
    assert count < 6 or inside >= 88
