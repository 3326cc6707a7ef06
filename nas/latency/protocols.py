"""Other protocols than the warm one (nas/latency/warm.py), over Sessions of any runtime.

`interleave` alternates blocks of several networks in random order. What the machine does to one it does to the other,
so their ratios hold still where the times do not; the times themselves are too long, because a block begins with the
caches that another network left. `modelbench` and `paper` repeat the published protocols on the wall clock, for
comparison with the literature.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.latency.noise import Noise
from nas.latency.runtime import Calls, Session

BLOCK_S = 0.02  # one block of inferences: long against the timer, short against the machine's moods
MIN_ROUNDS, MAX_ROUNDS = 15, 400
LOOK = 5  # rounds between two looks at the interval: who looks more often stops too often where it is narrow by chance
TRIMMED = 0.25  # of the rounds at either end
CAP_S = 4.0  # or MIN_ROUNDS, if those take longer
CONTAMINATED = 0.02  # share of a wall-clock block that its threads spent waiting for a core


@dataclass
class Samples:
    """Milliseconds an inference in each block: one list a trial, and the reference's; rounds are aligned."""

    trial_ms: list[list[float]]
    reference_ms: list[float]
    waited: list[float] = field(default_factory=list)  # share of each round spent waiting for a core
    flags: tuple[str, ...] = ()

    def kept(self, clock: str) -> np.ndarray:
        """Rounds to count: on the wall clock those without contamination, or the cleaner half where few are."""
        waited = np.array(self.waited)
        if clock == "cpu" or not len(waited):
            return np.ones(len(self.reference_ms), bool)
        return waited <= max(CONTAMINATED, float(np.median(waited)))

    def ratio(self, trial: int, clock: str) -> tuple[float, float, float]:
        """Ratio to the reference over paired blocks, with its 95 % interval within this session.

        The logarithms' trimmed mean: where a network runs in one of two moods, a median jumps between them and
        needs half as many rounds again for the same spread (docs/LOG.md).
        """
        from scipy.stats import trim_mean
        from scipy.stats.mstats import trimmed_mean_ci

        kept = self.kept(clock)
        logs = np.log(np.array(self.trial_ms[trial])[kept] / np.array(self.reference_ms)[kept])
        low, high = trimmed_mean_ci(logs, (TRIMMED, TRIMMED), alpha=0.05)
        return float(np.exp(trim_mean(logs, TRIMMED))), float(np.exp(low)), float(np.exp(high))


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median and its 95 % interval from order statistics: no shape is assumed, and few values give a wide one."""
    from scipy.stats import quantile_test

    found = quantile_test(values, q=float(np.median(values)), p=0.5).confidence_interval(0.95)
    low, high = found.low, found.high  # nan below six values
    return (float(np.median(values)), float(low if np.isfinite(low) else values.min()),
            float(high if np.isfinite(high) else values.max()))


def warm_up(session: Session, limit_s: float = 1.0) -> float:
    """Run until three inferences in a row agree to 5 %, or the limit; seconds an inference takes."""
    begun, times = time.perf_counter(), [session.block(1)]
    while time.perf_counter() - begun < limit_s:
        times.append(max(1e-7, session.block(1)))
        last = times[-3:]
        if len(times) > 4 and max(last) < 1.05 * min(last):
            break
    return float(np.median(times[-3:]))


Enough = Callable[[Samples], bool]


def interleave(trials: Sequence[Session], reference: Session, *, enough: Enough, rng: np.random.Generator,
               cap_s: float | None = None) -> Samples:
    """Rounds of one block each, in random order, until `enough` of them or the cap, which is flagged.

    Blocks of all networks last equally long, so that a disturbance hits each with the same chance.
    """
    sessions = [*trials, reference]
    singles = [warm_up(session) for session in sessions]
    block = max(BLOCK_S, *singles)
    repeats = [1 if getattr(session, "isolated", False) else max(1, round(block / single))
               for session, single in zip(sessions, singles, strict=True)]
    found = Samples([[] for _ in trials], [])
    begun = time.perf_counter()
    cap_s = (CAP_S if cap_s is None else cap_s) * max(1, len(trials))
    while len(found.reference_ms) < MAX_ROUNDS:
        times = [0.0] * len(sessions)
        with Noise() as noise:
            for index in rng.permutation(len(sessions)):
                times[index] = 1e3 * sessions[index].block(repeats[index]) / repeats[index]
        for index, values in enumerate(found.trial_ms):
            values.append(times[index])
        found.reference_ms.append(times[-1])
        found.waited.append(noise.waited)
        rounds = len(found.reference_ms)
        if rounds < MIN_ROUNDS or rounds % LOOK:
            continue
        if enough(found):
            return found
        if time.perf_counter() - begun > cap_s:
            break
    found.flags = ("capped",)
    return found


def precise(clock: str, half_width: float) -> Enough:
    """Stops when every trial's interval within the session is narrow enough. Of intervals that ended this way about
    80 % hold the truth instead of 95 %: they are narrow by chance more often than by right."""
    def enough(samples: Samples) -> bool:
        ratios = [samples.ratio(trial, clock) for trial in range(len(samples.trial_ms))]
        return all((high - low) / 2 <= half_width * ratio for ratio, low, high in ratios)
    return enough


def modelbench(load: Callable[[], Session], rounds: int = 20, runs: int = 50) -> tuple[list[float], list[float]]:
    """Apple's ModelBench: the model loaded anew in every round, the first of 50 runs discarded, of the rest the 10
    fastest and 10 slowest trimmed. Mean ms of each round, and all ms as they came."""
    means, raw = [], []
    for _ in range(rounds):
        session = _walled(load())
        times = sorted(values := [1e3 * session.block(1) for _ in range(runs)][1:])
        raw += values
        means.append(float(np.mean(times[10:-10])))
    return means, raw


def paper(session: Session, runs: int = 100) -> list[float]:
    """The paper's protocol: ms of 100 runs after a warm-up, of which it reports the median."""
    session = _walled(session)
    warm_up(session)
    return [1e3 * session.block(1) for _ in range(runs)]


def _walled(session: Session) -> Session:
    return Calls(session.run, "wall") if isinstance(session, Calls) else session
