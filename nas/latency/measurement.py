"""What one measurement says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """Latency of one network on one device: an estimate with a 95 % interval, and the samples behind it.

    `origin` is "measured" or "predicted"; the two are never compared without saying so. `flags` say what a
    reader should know: "capped" (the interval is wider than wanted), "early" (ended as soon as the budget was
    decided, or a wide interval was asked for), "busy" (other processes took a large share of the machine, or a
    trainer did not pause: may be high), "undecided" (the budget lies inside the interval), "extrapolated"
    (predicted from outside what was fitted).
    """

    name: str
    config_key: str
    device: str
    origin: str
    resolution: int
    latency_ms: float
    ci_low_ms: float
    ci_high_ms: float
    batch: int = 1
    threads: int = 1
    precision: str = "fp32"
    protocol: str = "warm"
    runtime: str = ""
    flags: tuple[str, ...] = ()
    reference_ms: float = 0.0  # the reference network's, just then: how fast the machine was
    others: float = 0.0  # share of the machine that other processes took meanwhile
    sessions: int = 1  # how many the estimate is pooled from (nas/latency/pool.py)
    # ms of every block: "trial_ms", "reference_ms"; "waited" is the share of each of the trial's without a core
    samples: dict[str, list[float]] = field(default_factory=dict)
    measured_at: str = ""
    seconds: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict)  # where the seconds went

    @property
    def images_per_s(self) -> float:
        return 1e3 * self.batch / self.latency_ms

    def decides(self, budget_ms: float | None) -> bool:
        """Whether the budget lies outside the interval."""
        return budget_ms is not None and not self.ci_low_ms <= budget_ms <= self.ci_high_ms

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"flags": list(self.flags)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measurement:
        """From `to_dict`, also of a version with more fields."""
        known = {f.name for f in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        return cls(**kept | {"flags": tuple(values.get("flags", ()))})
