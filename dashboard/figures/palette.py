"""Colours and symbols that colour-blind readers tell apart, on light and on dark paper."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import Any

# Okabe-Ito without black and without its yellow, which is lost on white.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY = "#8A8A8A"
RUNS = (BLUE, PURPLE, VERMILION, GREEN, SKY)  # one a run; the first is the run in focus
STAGES = (GREY, SKY, BLUE, GREEN, ORANGE, PURPLE)  # stem, stages 1 to 4, head
OUTCOMES = {"complete": (GREY, "circle"), "over_budget": (VERMILION, "triangle-right-open"),
            "stopped_early": (SKY, "triangle-down-open"), "failed": (PURPLE, "x-thin-open")}


def plain(text: Any) -> str:
    """Text from a run as text: plotly reads a little HTML in names and hovers."""
    return html.escape(str(text), quote=False)


def log_range(values: Iterable[float], low: float = 1.12, high: float = 1.15) -> list[float] | None:
    """The range of a log axis around `values`, as plotly wants it: exponents of ten."""
    kept = [value for value in values if value is not None and math.isfinite(value) and value > 0]
    if not kept:
        return None
    return [math.log10(min(kept) / low), math.log10(max(kept) * high)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high` for a log axis of one or two decades: 1, 2, 5 and more where it is short."""
    reach = high / low
    if reach < 2.2:
        size = 0.1 * 10 ** math.floor(math.log10(high))
        size *= 5 if (high - low) / size > 24 else 2 if (high - low) / size > 12 else 1
        return [round(size * i, 6) for i in range(math.ceil(low / size), math.floor(high / size) + 1)]
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if reach < 6 else (1, 1.5, 2, 3, 5, 7) if reach < 30 else (1, 2, 5)
    found, power = [], math.floor(math.log10(low))
    while 10**power <= high:
        found += [step * 10**power for step in steps if low <= step * 10**power <= high]
        power += 1
    return found
