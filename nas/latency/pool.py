"""One network, one latency: what all sessions of a network on a device say together.

Sessions differ by more than one of them can know (page layouts, the machine's mood). So the logarithms of their
milliseconds are averaged by the inverse of their variances, and what sessions of the same network differ beyond their
intervals, estimated over all networks of a run (DerSimonian and Laird's moments), widens every interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nas.runs.measurement import Measurement

PRIOR_DF = 4  # degrees of freedom that believe the intervals: two sessions that differ by chance widen nothing much


def halves(found: Measurement) -> tuple[float, float]:
    """Standard deviations of the logarithm, downwards and upwards, from the 95 % interval."""
    return (math.log(found.latency_ms / max(found.ci_low_ms, 1e-6 * found.latency_ms)) / 1.96,
            math.log(found.ci_high_ms / found.latency_ms) / 1.96)


def _variance(found: Measurement) -> float:
    low, high = halves(found)
    return max(1e-8, ((low + high) / 2) ** 2)


def distinct(sessions: Iterable[Measurement]) -> list[Measurement]:
    """Each session once: a trial that reuses another one's latency tells nothing new. Those of one protocol only, the
    last one's: two protocols do not measure the same."""
    found = list({(one.measured_at, one.latency_ms): one for one in sessions}.values())
    return [one for one in found if one.protocol == found[-1].protocol]


def between_sessions(groups: Iterable[Sequence[Measurement]]) -> float:
    """Variance of the logarithm between sessions of one network, beyond their intervals; 0 where they explain it."""
    surprise, freedom, scale = 0.0, 0, 0.0
    for sessions in groups:
        if len(sessions) < 2:
            continue
        weights = [1 / _variance(one) for one in sessions]
        logs = [math.log(one.latency_ms) for one in sessions]
        total = sum(weights)
        middle = sum(w * y for w, y in zip(weights, logs, strict=True)) / total
        surprise += sum(w * (y - middle) ** 2 for w, y in zip(weights, logs, strict=True))
        freedom += len(sessions) - 1
        scale += total - sum(w * w for w in weights) / total
    if not scale:
        return 0.0
    return max(0.0, (surprise - freedom) / scale) * freedom / (freedom + PRIOR_DF)


def pooled(sessions: Sequence[Measurement], between: float = 0.0) -> Measurement:
    """The estimate of all sessions of one network. The last session's other fields stay; flags are those of all."""
    weights = [1 / (_variance(one) + between) for one in sessions]
    total = sum(weights)
    middle = math.exp(sum(w * math.log(one.latency_ms) for w, one in zip(weights, sessions, strict=True)) / total)
    down, up = (1.96 * math.sqrt(sum(w * w * (halves(one)[side] ** 2 + between)
                                     for w, one in zip(weights, sessions, strict=True))) / total for side in (0, 1))
    flags = tuple(flag for flag in sessions[-1].flags if all(flag in one.flags for one in sessions))
    return replace(sessions[-1], latency_ms=middle, ci_low_ms=middle * math.exp(-down),
                   ci_high_ms=middle * math.exp(up), flags=flags, sessions=len(sessions))
