"""The one rule for "meets the budget", on measured and on predicted latencies, single ones and whole columns.

A latency is known with a 95 % interval. It meets the budget when the whole interval does, and it is over the budget
when none of the interval meets it; in between nobody knows. What is shown as a result must meet the budget; what is
given up must be over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T", float, "np.ndarray", "pd.Series")

Z_95 = 1.96  # half of a 95 % interval, in standard deviations


def meets_budget(ci_high_ms: T, budget_ms: float) -> T | bool:
    """Whether a latency with this upper end of its 95 % interval meets the budget."""
    return ci_high_ms <= budget_ms


def is_over_budget(ci_low_ms: T, budget_ms: float) -> T | bool:
    """Whether a latency with this lower end of its 95 % interval is over the budget."""
    return ci_low_ms > budget_ms
