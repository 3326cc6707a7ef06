"""Replayed objectives for benchmarks/samplers.py: what a trial would find, and how long it would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fastvit import FastViTConfig
from fastvit.cost import cost
from nas.bench.table import lean_rows
from nas.estimate.surrogate import bench_evidence, encode, size_features
from nas.proxy.recipe import RECIPE, RUNGS

STEPS = RUNGS[-1]
MEASURE_S = 1.5  # a measurement, converting included


def latency_ms(config: FastViTConfig) -> float:
    size = cost(config, 64)
    return 0.25 + 16 * size.gmacs + 0.35 * size.activations_m + 0.015 * sum(config.depths)


def seconds(config: FastViTConfig, steps: int) -> float:
    """Seconds of training on one thread, as the proxies of T8 (17 s for 240 steps) and MA36 (112 s) take them."""
    return steps * (0.03 + 0.9 * cost(config, 64).gmacs)


def _toy(config: FastViTConfig, steps: int) -> float:
    """Saturating in size, a best place for width and depth between stages, gains from kernels and attention; short
    runs have learned less, deep networks least."""
    size = cost(config, 64)
    balance = np.std(np.diff(np.log2(config.widths))) + 0.3 * abs(np.log2(config.depths[2] / 8))
    final = (0.9 - 0.12 * size.gmacs**-0.35 - 0.05 * balance + 0.01 * sum(k == 7 for k in config.ffn_kernels)
             + 0.02 * (config.mixers[3] == "attention") - 0.01 * (config.mixers[2] == "attention"))
    return float(final * (1 - 0.3 * (1 - steps / STEPS) * (1 + sum(config.depths) / 30)))


def _replay() -> Callable[[FastViTConfig, int], float]:
    """Extremely randomised trees over FastViT-Bench's short runs, one forest a rung."""
    from sklearn.ensemble import ExtraTreesRegressor

    rows = bench_evidence([row for row in lean_rows(RECIPE) if row["task"] == "builtin"])
    forests = {}
    for rung in RUNGS:
        own = [row for row in rows if row.steps == rung]
        x = np.array([features(row.config) for row in own])
        forests[rung] = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0).fit(x, [r.score for r in own])
    return lambda config, steps: float(forests[steps].predict([features(config)])[0])


def features(config: FastViTConfig) -> np.ndarray:
    return np.concatenate([encode(config), size_features(config)])


@dataclass
class Objective:
    """`score` is noise-free; `noisy` is one run. `kind` is toy or replay."""

    kind: str
    noise: float
    _memory: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._raw = _toy if self.kind == "toy" else _replay()

    def score(self, config: FastViTConfig, steps: int = STEPS) -> float:
        key = config.key(), steps
        if key not in self._memory:
            self._memory[key] = self._raw(config, steps)
        return self._memory[key]

    def noisy(self, config: FastViTConfig, rng: np.random.Generator, steps: int = STEPS) -> float:
        return self.score(config, steps) + self.noise * float(rng.standard_normal())


@dataclass(frozen=True)
class Step:
    """One trial of a search: what was tried, whether it was trained to the end, and the seconds it took."""

    config: FastViTConfig
    scored: bool
    seconds: float


def whole(config: FastViTConfig, budget_ms: float) -> Step:
    """A trial without rungs: measured, and trained to the end if it meets the budget."""
    fits = latency_ms(config) <= budget_ms
    return Step(config, fits, MEASURE_S + (seconds(config, STEPS) if fits else 0.0))
