"""Figures that no run measures: predicted phone latency, estimated ImageNet top-1 and long run, worked out when shown.

A configuration is predicted once and remembered; a thousand take about a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastvit.config import FastViTConfig

if TYPE_CHECKING:
    import pandas as pd

Interval = tuple[float, float, float]  # the estimate and the ends of its 95 % interval


def _phone(configs: Sequence[FastViTConfig], _: Sequence[float | None]) -> list[Interval]:
    from nas.latency.phones import predict

    ms, low, high, _ = predict(configs, "iphone12pro")
    return [(float(a), float(b), float(c)) for a, b, c in zip(ms, low, high, strict=True)]


def _top1(configs: Sequence[FastViTConfig], _: Sequence[float | None]) -> list[Interval]:
    from nas.estimate.imagenet import estimated_top1

    return estimated_top1(configs)


def _long_run(configs: Sequence[FastViTConfig], standings: Sequence[float | None]) -> list[Interval]:
    from nas.estimate.long_run import estimated_long_run

    return estimated_long_run(configs, standings)


ESTIMATES: dict[str, Callable[[Sequence[FastViTConfig], Sequence[float | None]], list[Interval]]] = {
    "phone_ms": _phone, "top1": _top1, "long_run": _long_run}
_known: dict[str, dict[tuple[str, float | None], Interval]] = {name: {} for name in ESTIMATES}


def with_estimate(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """`frame` with the columns `name`, `name`_low and `name`_high; as it was when `name` is no estimate."""
    if name not in ESTIMATES:
        return frame
    known = _known[name]
    # A long run's estimate also depends on how a configuration stands in its run.
    stands = frame.standing if name == "long_run" and "standing" in frame else [None] * len(frame)
    keys = [(key, None if value is None or value != value else float(value))
            for key, value in zip(frame.config_key, stands, strict=True)]
    new = {key: FastViTConfig.from_dict(json.loads(text)) for key, text in zip(keys, frame.config, strict=True)
           if isinstance(key[0], str) and isinstance(text, str) and key not in known}
    found = ESTIMATES[name](list(new.values()), [standing for _, standing in new]) if new else []
    known.update(zip(new, found, strict=True))
    nothing = (float("nan"),) * 3
    values = [known.get(key, nothing) for key in keys]
    columns = {column: [value[i] for value in values] for i, column in enumerate((name, f"{name}_low", f"{name}_high"))}
    return frame.assign(**columns)
