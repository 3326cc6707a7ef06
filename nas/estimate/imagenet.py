"""ImageNet top-1 estimated from size: a law fitted to the published presets and ablations, always labelled estimated.

top-1 = a - b * GMACs^-c at 256 px, without distillation. The score of a short run does not enter:
benchmarks/fidelity.py does not show that it adds anything at equal size (docs/LOG.md). The 95 % interval holds the
law's leave-one-out error and how far leaving out one published network moves the estimate, which grows outside the
published sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import ABLATIONS, PRESETS
from fastvit.published import published

RESOLUTION = 256


def published_top1() -> dict[str, tuple[float, float]]:
    """GMACs at 256 px, counted by fastvit.cost, and top-1 in percent of the FastViTs that were published without
    distillation, by name."""
    named = {f"FastViT-{name.upper()}": config for name, config in PRESETS.items()}
    named |= {f"FastViT ablation {name.upper()}": config for name, config in ABLATIONS.items()}
    return {row.model: (cost(named[row.model], RESOLUTION).gmacs, row.top1) for row in published()
            if row.model in named and not row.distilled and row.resolution == RESOLUTION and row.top1 is not None}


def law(gmacs: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return np.asarray(a - b * np.power(gmacs, -c))


@lru_cache(maxsize=1)
def _fits() -> tuple[np.ndarray, np.ndarray, float]:
    """Parameters fitted to all, parameters with each point left out (N, 3), and the leave-one-out RMSE in points."""
    from scipy.optimize import curve_fit

    gmacs, top1 = np.array(list(published_top1().values())).T

    def fitted(keep: np.ndarray) -> np.ndarray:
        found, _ = curve_fit(law, gmacs[keep], top1[keep], p0=(88.0, 10.0, 0.45), bounds=((80, 0, 0.05), (100, 60, 2)))
        return np.asarray(found)

    every = np.arange(len(gmacs))
    left_out = np.array([fitted(every != index) for index in every])
    errors = [top1[i] - law(gmacs[i:i + 1], *left_out[i])[0] for i in every]
    return fitted(every >= 0), left_out, float(np.sqrt(np.mean(np.square(errors))))


def estimated_top1(configs: Sequence[FastViTConfig]) -> list[tuple[float, float, float]]:
    """Estimated ImageNet-1k top-1 in percent at 256 px, with the ends of its 95 % interval."""
    from scipy.stats import t

    whole, left_out, rmse = _fits()
    gmacs = np.array([cost(config, RESOLUTION).gmacs for config in configs])
    middle = law(gmacs, *whole)
    others = np.array([law(gmacs, *one) for one in left_out])
    # Jackknife: the spread of the leave-one-out estimates, times the square root of their number less one.
    moved = np.sqrt((len(others) - 1) * others.var(0))
    half = t.ppf(0.975, len(left_out) - 3) * np.hypot(rmse, moved)
    return [(float(m), float(low), float(high)) for m, low, high in
            zip(*np.clip([middle, middle - half, middle + half], 0, 100), strict=True)]
