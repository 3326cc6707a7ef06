"""How much of the space meets the budget, before minutes are spent on it; and what surely does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost, memory_mb
from fastvit.presets import PRESETS
from nas.runs.budget import Z_95, is_over_budget
from space import SearchSpace

if TYPE_CHECKING:
    from nas.latency.predictor import Predictor
    from nas.runs.meta import RunMeta
    from nas.runs.run import Run, Trial

DRAWS = 2000
_BYTES = {"int8": 1, "fp16": 2, "fp16-ios18": 2, "bf16": 2}  # of a weight; else 4


def surely_over(predictor: Predictor, config: FastViTConfig, budget_ms: float) -> float | None:
    """The predicted ms of a configuration that is over the budget by more than the prediction may err, else None."""
    ms, sd = (float(values[0]) for values in predictor.predict([config]))
    return ms if is_over_budget(ms - Z_95 * sd, budget_ms) else None


def over_limits(meta: RunMeta, config: FastViTConfig) -> str:
    """What of a configuration is beyond the run's limits on size, in words; empty when it meets them all."""
    size_m = cost(config, meta.resolution, meta.num_classes).params_m
    each = _BYTES.get(meta.precision or "", 4)
    for value, most, text in (
            (size_m, meta.most_params_m, "{:.2f} M parameters, over --max-params-m {:g}"),
            (each * size_m, meta.most_size_mb, "{:.1f} MB of weights, over --max-size-mb {:g}"),
            (memory_mb(config, meta.resolution, meta.num_classes, each), meta.most_memory_mb,
             "{:.1f} MB of memory, over --max-memory-mb {:g}")):
        if most is not None and value > most:
            return text.format(value, most)
    return ""


def limits_words(meta: RunMeta) -> str:
    """Such as "at most 5 M parameters, at most 10 MB of weights"; empty where a run has no limits on size."""
    said = ((meta.most_params_m, "at most {:g} M parameters"), (meta.most_size_mb, "at most {:g} MB of weights"),
            (meta.most_memory_mb, "at most {:g} MB of memory"))
    return ", ".join(text.format(most) for most, text in said if most is not None)


def within_limits(meta: RunMeta, trial: Trial) -> bool:
    """Whether a trial's configuration meets the run's limits on size; a model of timm has none to judge by."""
    return trial.config is None or not over_limits(meta, trial.architecture)


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
    allowed = np.array([not over_limits(run.meta, config) for config in drawn])
    return Feasibility(
        float(predicted[0]), float(np.median(ms)), {one: float((allowed & (ms <= one)).mean())
                                                          for one in run.meta.budgets},
        {name: float(one) for name, one in zip(PRESETS, predicted[1:], strict=False)})
