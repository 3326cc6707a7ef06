"""How much of the space meets the budget, before minutes are spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastvit.presets import PRESETS
from space import SearchSpace

if TYPE_CHECKING:
    from nas.runs.run import Run, TrialRecord

DRAWS = 2000


@dataclass(frozen=True)
class Reach:
    """What is predicted of a space on a device: its smallest configuration's ms, the median of random ones, where the
    presets stand, and the share of random ones within each budget."""

    smallest_ms: float
    median_ms: float
    shares: dict[float, float]
    presets_ms: dict[str, float]

    @property
    def words(self) -> str:
        """Such as "2 ms: 31 % of 2,000 random configurations; smallest 0.4 ms, median 3.1 ms; T8 1.2, T12 1.9 ms
        (predicted)"."""
        shares = ", ".join(f"{budget:g} ms: {100 * share:.0f} %" for budget, share in self.shares.items())
        presets = ", ".join(f"{name.upper()} {ms:.2g}" for name, ms in self.presets_ms.items())
        return (f"{shares} of {DRAWS:,} random configurations; smallest {self.smallest_ms:.2g} ms, median "
                f"{self.median_ms:.2g} ms; {presets} ms (predicted)")


def reach(run: Run, records: Sequence[TrialRecord]) -> Reach | None:
    """How much of the run's space meets its budgets; None while too little was measured to predict."""
    from nas.latency.predictor import Predictor

    space = SearchSpace.from_toml(run.meta["space"]["toml"])
    predictor = Predictor.of_run(run.meta["device"], run.meta["resolution"])
    predictor.update(records)
    smallest, _ = space.corners()
    if not predictor.ready:
        return None
    rng = np.random.default_rng(run.meta["seed"])
    drawn = [space.sample(rng) for _ in range(DRAWS)]
    predicted, _ = predictor.predict([smallest, *PRESETS.values(), *drawn])
    ms = predicted[1 + len(PRESETS):]
    budgets = run.meta.get("budgets") or [run.meta["budget_ms"]]
    return Reach(float(predicted[0]), float(np.median(ms)), {one: float((ms <= one).mean()) for one in budgets},
                 {name: float(one) for name, one in zip(PRESETS, predicted[1:], strict=False)})
