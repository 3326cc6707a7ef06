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


def _phone(configs: Sequence[FastViTConfig]) -> list[Interval]:
    from nas.latency.phones import predict

    ms, low, high, _ = predict(configs, "iphone12pro")
    return [(float(a), float(b), float(c)) for a, b, c in zip(ms, low, high, strict=True)]


def _top1(configs: Sequence[FastViTConfig]) -> list[Interval]:
    from nas.imagenet import estimated_top1

    return estimated_top1(configs)


def _long_run(configs: Sequence[FastViTConfig]) -> list[Interval]:
    from nas.horizon import estimated_long_run

    return estimated_long_run(configs)


ESTIMATES: dict[str, Callable[[Sequence[FastViTConfig]], list[Interval]]] = {
    "phone_ms": _phone, "top1": _top1, "long_run": _long_run}
_known: dict[str, dict[str, Interval]] = {name: {} for name in ESTIMATES}


def with_estimate(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """`frame` with the columns `name`, `name`_low and `name`_high; as it was when `name` is no estimate."""
    if name not in ESTIMATES:
        return frame
    known = _known[name]
    configs = dict(zip(frame.config_key, frame.config, strict=True))
    new = {key: FastViTConfig.from_dict(json.loads(text)) for key, text in configs.items()
           if isinstance(key, str) and isinstance(text, str) and key not in known}
    known.update(zip(new, ESTIMATES[name](list(new.values())) if new else [], strict=True))
    nothing = (float("nan"),) * 3
    values = [known.get(key, nothing) if isinstance(key, str) else nothing for key in frame.config_key]
    columns = {column: [value[i] for value in values] for i, column in enumerate((name, f"{name}_low", f"{name}_high"))}
    return frame.assign(**columns)
