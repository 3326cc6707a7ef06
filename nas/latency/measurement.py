"""What one measurement says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """Latency of one network on one device: an estimate with a 95 % interval, and the samples behind it.

    `origin` is "measured" or "predicted"; the two are never compared without saying so.
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
    protocol: str = "interleaved-1"
    runtime: str = ""
    flags: tuple[str, ...] = ()
    samples: dict[str, list[float]] = field(default_factory=dict)
    measured_at: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"flags": list(self.flags)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measurement:
        return cls(**values | {"flags": tuple(values.get("flags", ()))})
