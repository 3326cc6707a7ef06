"""How much of the space meets the budget, before minutes are spent on it; and what surely does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.runs.budget import Z_95, is_over_budget
from space import SearchSpace

if TYPE_CHECKING:
    from nas.latency.predictor import Predictor
    from nas.runs.run import Run, Trial

DRAWS = 2000


def surely_over(predictor: Predictor, config: FastViTConfig, budget_ms: float) -> float | None:
    """The predicted ms of a configuration that is over the budget by more than the prediction may err, else None."""
    ms, sd = (float(values[0]) for values in predictor.predict([config]))
    return ms if is_over_budget(ms - Z_95 * sd, budget_ms) else None


@dataclass(frozen=True)
class Feasibility:
    """What is predicted of a space on a device: its smallest configuration's ms, the median of random ones, where the
    presets stand, and the share of random ones within each budget (by the middle of each prediction, for errors to both
    sides even out in a share)."""

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


def feasibility(run: Run, trials: Sequence[Trial]) -> Feasibility | None:
    """How much of the run's space meets its budgets; None while too little was measured to predict."""
    from nas.latency.predictor import Predictor

    space = SearchSpace.from_toml(run.meta.space.toml)
    predictor = Predictor.of_run(run.meta.device, run.meta.resolution, run.meta.precision)
    predictor.update(trials)
    if not predictor.ready:
        return None
    smallest, _ = space.smallest_and_largest()
    rng = np.random.default_rng(run.meta.seed)
    drawn = [space.sample(rng) for _ in range(DRAWS)]
    predicted, _ = predictor.predict([smallest, *PRESETS.values(), *drawn])
    ms = predicted[1 + len(PRESETS):]
    return Feasibility(
        float(predicted[0]), float(np.median(ms)), {one: float((ms <= one).mean()) for one in run.meta.budgets},
        {name: float(one) for name, one in zip(PRESETS, predicted[1:], strict=False)})
