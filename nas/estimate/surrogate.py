"""What all trials together say of one configuration: a Gaussian process over encodings and training steps.

A single short run is noisy; the posterior mean borrows from every similar configuration and from earlier rungs,
and its standard deviation says how far that goes. A linear kernel over size and choices holds what is known of
this field, that size explains most; a Matern kernel holds the rest. On objectives of known truth this ranked
better than a law of size as the mean function, and than either kernel alone (docs/LOG.md).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.estimate.offsets import bench_offsets
from nas.runs.trial import Trial

log = logging.getLogger(__name__)

MIN_ROWS = 8
MAX_ROWS = 600  # fitting is cubic in them
SIZE_RESOLUTION = 64
PARENT_SHARE = 0.1  # of the variance between configurations: what another parent changes (docs/LOG.md)


def encode(config: FastViTConfig) -> np.ndarray:
    """Every choice of the architecture as a number of order 1: (35,), whatever space it came from. RepMixer is the
    origin; every other mixer has a number of its own in each stage."""
    config = config.in_four_stages()
    logs = [math.log2(d) / 2 for d in config.depths] + [math.log2(w / 64) / 2 for w in config.widths]
    kernels = [(k - 5) / 4 for k in (*config.mixer_kernels, *config.ffn_kernels, *config.patch_kernels)]
    return np.array(logs + [(r - 2.5) / 2 for r in config.mlp_ratios]
                    + [float(m == other) for other in ("attention", "pool", "convmixer") for m in config.mixers]
                    + kernels)


def size_features(config: FastViTConfig) -> np.ndarray:
    """Logarithms of GMACs, parameters, depth and activations: (4,). No other number says as much of a long run as
    activations do (docs/LOG.md)."""
    size = cost(config, SIZE_RESOLUTION)
    return np.log([size.gmacs / 0.03, size.params_m / 3, sum(config.depths) / 12, size.activations_m / 0.4])


@lru_cache(maxsize=20_000)  # a search asks for the same few hundred before every trial
def _described(config: FastViTConfig) -> tuple[float, ...]:
    return *encode(config).tolist(), *size_features(config).tolist()


@dataclass(frozen=True)
class Evidence:
    """One score: of a configuration, after so many steps of training. `sd` is its sampling error."""

    config: FastViTConfig
    steps: int
    score: float
    sd: float = 0.0


def evidence(trials: Iterable[Trial]) -> list[Evidence]:
    """Every rung of every trial; trials that were stopped early say as much as they were trained for."""
    found = {}
    for trial in trials:
        if trial.config is not None and trial.reused_from is None:
            further = trial.confirmed.runs[1:] if trial.confirmed is not None else ()
            for run, scores in enumerate([trial.scores, *(one.scores for one in further)]):
                for rung in scores:
                    found[trial.config_key, rung.step, run] = Evidence(trial.config, rung.step, rung.score,
                                                                       rung.score_sd or 0.0)
    return list(found.values())


def shipped_evidence(task_fingerprint: str) -> list[Evidence]:
    """What FastViT-Bench holds of exactly these images: the prior of a run on a task that ships. The presets are
    left out, since every run has them among its own trials."""
    from nas.bench.table import rows_of

    return bench_evidence(rows_of(task_fingerprint))


def bench_evidence(rows: Sequence[dict[str, Any]]) -> list[Evidence]:
    """Rows of FastViT-Bench, of one recipe and task, on the level of their first seed; without the presets."""
    offset = bench_offsets(rows, min((row["seed"] for row in rows), default=0))
    return [Evidence(FastViTConfig.from_dict(row["config"]), row["steps"],
                     row["score"] - offset.get((row["seed"], row["steps"]), 0.0), row["score_sd"])
            for row in rows if not row["preset"]]


def rung_scales(rows: Sequence[Evidence]) -> dict[int, tuple[float, float]]:
    """By steps: centre and spread of the scores of all configurations that were begun.

    Trials that stop early leave the better ones for the higher rungs, whose own mean and spread would make survivors
    look average. So a rung's score is regressed on the one before it, among the configurations that have both, and
    stated for all: selection by the score before does not bias a regression on it (Pearson, 1903).
    """
    by_steps: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        by_steps.setdefault(row.steps, {}).setdefault(row.config.key(), []).append(row.score)
    found: dict[int, tuple[float, float]] = {}
    known: dict[str, float] = {}  # each configuration's score at its highest rung so far, standardised
    for steps in sorted(by_steps):
        own = {key: float(np.mean(scores)) for key, scores in by_steps[steps].items()}
        values = np.array([score for scores in by_steps[steps].values() for score in scores])
        centre, spread = float(values.mean()), float(values.std())
        shared = [key for key in own if key in known]
        before, after = np.array([known[key] for key in shared]), np.array([own[key] for key in shared])
        if len(shared) >= MIN_ROWS and before.std() > 0 and len(known) > len(own):
            slope, centre = np.polyfit(before, after, 1)
            spread = float(np.hypot(slope, np.std(after - slope * before - centre)))
        found[steps] = float(centre), max(1e-4, spread)
        known |= {key: (score - found[steps][0]) / found[steps][1] for key, score in own.items()}
    return found


class Surrogate:
    """Posterior of the score after `steps` steps of training.

    Args:
        steps: the rung that is predicted, usually the top one.
        seed: of the optimizer's restarts.
        most_rows: of the highest rungs, the latest first.
    """

    def __init__(self, steps: int, *, seed: int = 0, most_rows: int = MAX_ROWS) -> None:
        self.steps, self.seed, self.most_rows = steps, seed, most_rows
        self._process: Any = None
        self._scales: dict[int, tuple[float, float]] = {}

    @property
    def ready(self) -> bool:
        return self._process is not None

    def fit(self, rows: Sequence[Evidence], *, optimize: bool = True, theta: Sequence[float] | None = None
            ) -> Surrogate:
        """Learn from `rows`; with fewer than MIN_ROWS of them it stays as it was.

        optimize False keeps the kernel's parameters of the fit before: milliseconds instead of a second; `theta` are
        such parameters, from an earlier fit's `theta`.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

        every = [row for row in rows if math.isfinite(row.score)]
        rows = sorted(every, key=lambda row: row.steps)[::-1][:self.most_rows]
        if len([row for row in rows if row.steps == self.steps]) < MIN_ROWS:
            return self
        # Scores rise with steps; standardised rung by rung, the rungs say the same of a configuration.
        scales = rung_scales(every)
        before, self._scales = (self._process, self._scales), scales
        x = np.array([self._row(row.config, row.steps) for row in rows])
        y = np.array([(row.score - self._scales[row.steps][0]) / self._scales[row.steps][1] for row in rows])
        kernel = (ConstantKernel(1.0, (0.01, 20)) * Matern(2.0, (0.3, 30), nu=2.5)
                  + ConstantKernel(0.1, (1e-4, 20)) * DotProduct(0, "fixed") + WhiteKernel(0.3, (0.01, 2)))
        given = theta is not None and len(theta) == len(kernel.theta)
        if given:
            kernel = kernel.clone_with_theta(np.array(theta, float))
        keep = not given and not optimize and self._process is not None
        self._process = GaussianProcessRegressor(self._process.kernel_ if keep else kernel, random_state=self.seed,
                                                 optimizer=None if keep or given else "fmin_l_bfgs_b")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                self._process.fit(x, y)
            self._inflation = self._left_out_error(rows)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            # One fit that fails must not end a search: the one before stays, and without any the search falls back to
            # what it does before there is one.
            log.warning("the surrogate could not be fitted to %d scores (%s); %s", len(rows), error,
                        "the fit before stays" if before[0] is not None else "the search goes on without it")
            self._process, self._scales = before
        return self

    def _left_out_error(self, rows: Sequence[Evidence]) -> float:
        """Root mean square of (truth - prediction) / sd at the top rung when all rows of a configuration are left
        out, at least 1: what the process's own standard deviations are too small by (Rasmussen and Williams,
        section 5.4.2, in blocks)."""
        from scipy.linalg.lapack import dpotri

        half, _ = dpotri(self._process.L_, lower=1)
        inverse = np.tril(half) + np.tril(half, -1).T
        blocks: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            blocks.setdefault(row.config.key(), []).append(index)
        top = np.array([row.steps == self.steps for row in rows])
        squares = []
        for size in set(map(len, blocks.values())):  # all blocks of one size at once: (blocks, size)
            at = np.array([block for block in blocks.values() if len(block) == size])
            covariance = np.linalg.inv(inverse[at[:, :, None], at[:, None, :]])
            error = np.einsum("bij,bj->bi", covariance, self._process.alpha_[at])
            squares.append((error**2 / np.diagonal(covariance, axis1=1, axis2=2))[top[at]])
        return max(1.0, float(np.sqrt(np.mean(np.concatenate(squares)))))

    def predict(self, configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noise-free score: (N,) each."""
        x = np.array([self._row(config, self.steps) for config in configs])
        mean, sd = self._process.predict(x, return_std=True)
        centre, scale = self._scales[self.steps]
        return centre + scale * mean, scale * self._inflation * np.sqrt(np.maximum(sd**2 - self._noise, 1e-6))

    @property
    def theta(self) -> list[float]:
        """The kernel's parameters, as `fit` takes them."""
        return [float(value) for value in self._process.kernel_.theta]

    @property
    def _noise(self) -> float:
        return float(self._process.kernel_.k2.noise_level)

    @property
    def noise_sd(self) -> float:
        """Spread of one run about the noise-free score, as the process estimates it."""
        return self._scales[self.steps][1] * math.sqrt(self._noise)

    @property
    def parent_sd(self) -> float:
        """Spread of one configuration's score over parents, which runs that all start from one parent cannot tell."""
        return self._scales[self.steps][1] * math.sqrt(PARENT_SHARE)

    def _row(self, config: FastViTConfig, steps: int) -> tuple[float, ...]:
        return *_described(config), math.log2(steps / self.steps) / 2


def leave_out(rows: Sequence[Evidence], steps: int, *, folds: int = 10, seed: int = 0) -> dict[str, float]:
    """How the posterior does on configurations it has not seen: Kendall's tau with their own single runs, the same
    for GMACs alone, and how many of those runs lie in the 50 and 90 % intervals (a run's noise included)."""
    from scipy.stats import kendalltau, norm

    keys = sorted({row.config.key() for row in rows if row.steps == steps})
    if len(keys) < MIN_ROWS:
        return {}
    order = np.random.default_rng(seed).permutation(len(keys))
    held: list[Evidence] = []
    mean: list[float] = []
    errors: list[float] = []
    for fold in np.array_split(order, min(folds, len(keys))):
        left_out = {keys[i] for i in fold}
        model = Surrogate(steps, seed=seed).fit([row for row in rows if row.config.key() not in left_out])
        own = [row for row in rows if row.config.key() in left_out and row.steps == steps]
        if model.ready and own:
            found, sd = model.predict([row.config for row in own])
            held, mean = held + own, mean + found.tolist()
            errors += ((np.array([row.score for row in own]) - found) / np.hypot(sd, model.noise_sd)).tolist()
    if len(held) < 3:
        return {}
    truth, inside = [row.score for row in held], np.abs(errors)
    return {"n": len(held), "tau": float(kendalltau(truth, mean).statistic),
            "tau_gmacs": float(kendalltau(truth, [cost(r.config, SIZE_RESOLUTION).gmacs for r in held]).statistic),
            "coverage_50": float(np.mean(inside < norm.ppf(0.75))),
            "coverage_90": float(np.mean(inside < norm.ppf(0.95)))}
