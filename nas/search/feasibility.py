"""How much of the space meets the budget, before minutes are spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from space import SearchSpace

if TYPE_CHECKING:
    from nas.runs.run import Run, TrialRecord

DRAWS = 2000


def reach(run: Run, records: Sequence[TrialRecord]) -> str:
    """In words, such as "2 ms: 31 % of 2,000 random configurations; smallest 0.4 ms, median 3.1 ms (predicted)";
    empty while too little was measured to predict."""
    from nas.latency.predictor import Predictor

    space = SearchSpace.from_toml(run.meta["space"]["toml"])
    predictor = Predictor.of_run(run.meta["device"], run.meta["resolution"])
    predictor.update(records)
    smallest, _ = space.corners()
    if not predictor.ready:
        return ""
    rng = np.random.default_rng(run.meta["seed"])
    ms, _ = predictor.predict([smallest, *(space.sample(rng) for _ in range(DRAWS))])
    shares = ", ".join(f"{budget:g} ms: {100 * float((ms <= budget).mean()):.0f} %"
                       for budget in run.meta.get("budgets") or [run.meta["budget_ms"]])
    return (f"{shares} of {DRAWS:,} random configurations; smallest {ms[0]:.2g} ms, median {np.median(ms):.2g} ms "
            "(predicted)")
