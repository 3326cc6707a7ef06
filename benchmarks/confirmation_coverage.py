"""How often the 95 % intervals of confirmed scores hold, and whether the scores are too high, on runs whose truth is
known: finalists are the best of many first runs, and are trained again with two further seeds, each with an offset.

    python benchmarks/confirmation_coverage.py [RUNS]      the table in docs/LOG.md
    python benchmarks/confirmation_coverage.py bench       noise and offsets as FastViT-Bench has them

"mean of three" is the dumb rule: the mean of all three runs, offsets taken off as if they were known. "REML" takes the
further runs alone and a mixed model of statsmodels at its most likely variances.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from nas.estimate.offsets import Score, fit_seeds

CANDIDATES, FINALISTS, SEEDS = 40, 4, 3
SPREAD_SD = 0.04  # between configurations
PRESETS = (0, 1, 2, 7)
Found = tuple[np.ndarray, np.ndarray]  # means and standard deviations of the finalists


def simulated(presets: int, noise_sd: float, offset_sd: float, rng: np.random.Generator,
              method: Callable[[np.ndarray, np.ndarray], Found]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the finalists' scores on the first seed's level, and the standard deviations that were claimed."""
    true = 0.5 + SPREAD_SD * rng.standard_normal(CANDIDATES + presets)
    offset = offset_sd * rng.standard_normal(SEEDS)
    scores = true[:, None] + offset + noise_sd * rng.standard_normal((len(true), SEEDS))
    best = np.argsort(-scores[:CANDIDATES, 0])[:FINALISTS]
    mean, sd = method(scores[best], scores[CANDIDATES:])
    return mean - true[best] - offset[0], sd


def mean_of_three(finalists: np.ndarray, presets: np.ndarray) -> Found:
    offset = (presets - presets[:, :1]).mean(0) if len(presets) else np.zeros(SEEDS)
    runs = np.concatenate([finalists, presets]) - offset
    spread = np.sqrt(np.mean(np.var(runs, axis=1, ddof=1)))
    return (finalists - offset).mean(1), np.full(len(finalists), spread / SEEDS**0.5)


def reml(finalists: np.ndarray, presets: np.ndarray) -> Found:
    from statsmodels.regression.mixed_linear_model import MixedLM

    rows = [(item, seed, score) for item, runs in enumerate([*finalists, *presets]) for seed, score in enumerate(runs)
            if seed or item >= len(finalists)]
    item, seed, score = (np.array(column) for column in zip(*rows, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = MixedLM(score, np.eye(item.max() + 1)[item], groups=seed).fit(reml=True)
    first = found.random_effects.get(0)
    shift = 0.0 if first is None else float(np.asarray(first)[0])
    return found.fe_params[:len(finalists)] + shift, found.bse_fe[:len(finalists)]


def mixed(finalists: np.ndarray, presets: np.ndarray) -> Found:
    found = fit_seeds(tuple(Score(item, seed, float(score)) for item, runs in enumerate([*finalists, *presets])
                       for seed, score in enumerate(runs) if seed or item >= len(finalists)), 0).scores
    own = np.array([found[item] for item in range(len(finalists))])
    return own[:, 0], own[:, 1]


METHODS = {"mean of three (null)": mean_of_three, "REML, further runs": reml, "nas.estimate.offsets": mixed}


def table(runs: int, noise_sd: float, offset_sd: float) -> None:
    print(f"\nnoise {noise_sd:g}, between parents {offset_sd:g}; {runs} runs, {FINALISTS} finalists of {CANDIDATES}")
    print(f"{'':<22}" + "".join(f"{f'{n} presets':>30}" for n in PRESETS))
    print(f"{'':<22}" + f"{'coverage':>10}{'bias':>8}{'sd':>6}{'error':>6}" * len(PRESETS))
    for name, method in METHODS.items():
        line = f"{name:<22}"
        for presets in PRESETS:
            count = runs // 10 if method is reml else runs
            rng = np.random.default_rng(presets)
            error, sd = (np.concatenate(part) for part in zip(*(
                simulated(presets, noise_sd, offset_sd, rng, method) for _ in range(count)), strict=True))
            held = 100 * np.mean(np.abs(error) < 1.96 * sd)
            line += f"{held:>9.1f}%{1e3 * error.mean():>8.1f}{1e3 * sd.mean():>6.1f}{1e3 * error.std():>6.1f}"
        print(line, flush=True)


def bench() -> None:
    from nas.bench.table import lean_rows
    from nas.proxy.recipe import RECIPE

    by_task: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for row in lean_rows(RECIPE):
        by_task.setdefault((row["task"], row["steps"]), {}).setdefault(row["key"], {})[row["seed"]] = row["score"]
    for (task, steps), scores in sorted(by_task.items()):
        seeds = max(map(len, scores.values()))
        y = np.array([list(one.values()) for one in scores.values() if len(one) == seeds])
        rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
        noise = (rest**2).sum() / ((len(y) - 1) * (seeds - 1))
        between = y.mean(0).var(ddof=1) - noise / len(y)
        print(f"{task} {steps} steps: {len(y)} configurations, {seeds} seeds, noise {noise**0.5:.4f}, between parents "
              f"{max(0.0, between)**0.5:.4f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["bench"]:
        bench()
    else:
        for noise_sd, offset_sd in ((0.016, 0.010), (0.016, 0.0), (0.010, 0.020), (0.030, 0.010)):
            table(int(sys.argv[1]) if sys.argv[1:] else 1000, noise_sd, offset_sd)
