"""What one measurement says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from nas.runs.budget import Z_95, is_over_budget, meets_budget
from nas.runs.values import Count, Number, Text, read


class Origin(StrEnum):
    """Where a latency is from. The two are never compared without saying so."""

    MEASURED = "measured"
    PREDICTED = "predicted"


class MeasurementFlag(StrEnum):
    """What a reader of a measurement should know."""

    CAPPED = "capped"  # the interval is wider than wanted
    EARLY = "early"  # ended as soon as the budget was decided, or a wide interval was asked for
    BUSY = "busy"  # others took a large share of the machine, or a trainer did not pause: may be high
    UNDECIDED = "undecided"  # the budget lies inside the interval
    EXTRAPOLATED = "extrapolated"  # predicted from outside what was fitted


@dataclass(frozen=True)
class Measurement:
    """Latency of one network on one device: an estimate with a 95 % interval, and the samples behind it.

    `origin` is an Origin. `flags` are MeasurementFlags, and whatever a later version may add.
    """

    name: Text
    config_key: Text
    device: Text
    origin: Origin
    resolution: Count
    latency_ms: Number
    ci_low_ms: Number
    ci_high_ms: Number
    batch: Count = 1
    threads: Count = 1
    precision: Text = "fp32"
    protocol: Text = "warm"
    runtime: Text = ""
    flags: tuple[Text, ...] = ()
    reference_ms: Number = 0.0  # the reference network's, just then: how fast the machine was
    others: Number = 0.0  # share of the machine that other processes took meanwhile
    sessions: Count = 1  # how many the estimate is pooled from (nas/latency/pool.py)
    # ms of every block: "trial_ms", "reference_ms"; "waited" is the share of each of the trial's without a core
    samples: dict[Text, list[Number]] = field(default_factory=dict)
    measured_at: Text = ""
    seconds: Number = 0.0
    stages_s: dict[Text, Number] = field(default_factory=dict)  # where the seconds went

    @property
    def images_per_s(self) -> float:
        return 1e3 * self.batch / self.latency_ms

    @property
    def relative_sd(self) -> float:
        """Standard deviation as a share of the latency, from the 95 % interval."""
        return (self.ci_high_ms - self.ci_low_ms) / (2 * Z_95 * self.latency_ms)

    def decides(self, budget_ms: float | None) -> bool:
        """Whether it is known to meet the budget, or to be over it."""
        return budget_ms is not None and bool(meets_budget(self.ci_high_ms, budget_ms)
                                              or is_over_budget(self.ci_low_ms, budget_ms))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"flags": list(self.flags)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """From `to_dict`, also of a version with more fields.

        Raises:
            ValueError: a value is missing or not what it should be.
        """
        return read(cls, values)
