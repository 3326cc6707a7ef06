"""What a run's trials say of configurations it never tried: latency and score, each with a standard deviation.

A Gaussian process over the space's features corrects the size law (latency) or the mean (score). Its
leave-one-out error stands beside the error of a guess that knows only the size law or the mean, so that a
reader sees what the correction is worth.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.latency.size_law import SizeLaw
from nas.run import TrialRecord
from space import SearchSpace

AT_LEAST, AT_MOST = 6, 200  # trials: fewer say nothing, more cost more than they add


@dataclass
class Process:
    """A Gaussian process around an offset, with its own leave-one-out error and that of the offset alone."""

    model: Any
    centre: np.ndarray
    scale: np.ndarray
    error: float  # root mean square, leave one out
    null_error: float

    @classmethod
    def fit(cls, rows: np.ndarray, residual: np.ndarray, sd: np.ndarray) -> Process:
        """`rows` (n, features), what remains (n,) once the offset is taken away, and each one's own noise (n,)."""
        from scipy.linalg import cho_solve
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        centre, scale = rows.mean(0), rows.std(0) + 1e-9
        spread = max(float(residual.std()), 1e-6)
        kernel = (ConstantKernel(spread**2, (1e-3 * spread**2, 1e2 * spread**2))
                  * Matern(6.0, (1.0, 1e3), nu=2.5) + WhiteKernel(0.3 * spread**2, (1e-4 * spread**2, 2 * spread**2)))
        model = GaussianProcessRegressor(kernel, alpha=sd**2 + 1e-9 * spread**2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((rows - centre) / scale, residual)
        inverse = cho_solve((model.L_, True), np.eye(len(rows)))
        left_out = (inverse @ residual) / np.diag(inverse)
        return cls(model, centre, scale, float(np.sqrt(np.mean(left_out**2))), float(np.sqrt(np.mean(residual**2))))

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = self.model.predict((rows - self.centre) / self.scale, return_std=True)
        return mean, sd


def _latency_noise(record: TrialRecord) -> float:
    """Relative standard deviation of a measured latency: a quarter of its 95 % interval."""
    latency = record.latency or {}
    return float((latency["ci_high_ms"] - latency["ci_low_ms"]) / 4 / latency["latency_ms"])


@dataclass
class Predictor:
    """Fitted on one run; `words` says on how much, and how well it does."""

    space: SearchSpace
    resolution: int
    law: SizeLaw
    latency: Process | None = None
    score: Process | None = None
    mean_score: float = 0.0
    counts: tuple[int, int] = field(default=(0, 0))

    @classmethod
    def fit(cls, records: Sequence[TrialRecord], space: SearchSpace, resolution: int) -> Predictor:
        found = cls(space, resolution, SizeLaw(resolution))
        usable: dict[str, tuple[TrialRecord, np.ndarray]] = {}
        for record in reversed(records):
            if record.origin != "measured" or not record.config or not record.config_key or not record.latency_ms:
                continue
            row = found.row(FastViTConfig.from_dict(record.config))
            if record.config_key not in usable and row is not None:
                usable[record.config_key] = (record, row)
        kept = list(usable.values())
        found.law.fit([record for record, _ in kept])
        timed = kept[:AT_MOST]
        scored = [(r, row) for r, row in kept if r.outcome == "complete" and r.score is not None][:AT_MOST]
        found.counts = (len(timed), len(scored))
        if len(timed) >= AT_LEAST:
            residual = [np.log(r.latency_ms or np.nan) - np.log(found._law(r)) for r, _ in timed]
            found.latency = Process.fit(np.array([row for _, row in timed]), np.array(residual),
                                        np.array([_latency_noise(r) for r, _ in timed]))
        if len(scored) >= AT_LEAST:
            scores = np.array([r.score for r, _ in scored], float)
            found.mean_score = float(scores.mean())
            found.score = Process.fit(np.array([row for _, row in scored]), scores - found.mean_score,
                                      np.array([r.score_sd or 0.0 for r, _ in scored]))
        return found

    def _law(self, record: TrialRecord) -> float:
        return self.law.predict(FastViTConfig.from_dict(record.config or {})) or 1.0

    def row(self, config: FastViTConfig) -> np.ndarray | None:
        """Features of a configuration, or None where the space has no coordinates for it."""
        try:
            coordinates = self.space.features(config)
        except ValueError:
            return None
        size = cost(config, self.resolution)
        return np.concatenate([coordinates, np.log([size.gmacs, size.params_m, size.activations_m])])

    def guess(self, configs: Sequence[FastViTConfig]) -> list[dict[str, float | None]]:
        """latency_ms, latency_sd, score, score_sd of each configuration; None where the run says too little."""
        blank: dict[str, float | None] = {"latency_ms": None, "latency_sd": None, "score": None, "score_sd": None}
        found = [dict(blank) for _ in configs]
        rows = [self.row(config) for config in configs]
        known = [i for i, row in enumerate(rows) if row is not None]
        if not known:
            return found
        table = np.array([rows[i] for i in known])
        if self.latency is not None:
            mean, sd = self.latency.predict(table)
            for i, m, s in zip(known, mean, sd, strict=True):
                ms = (self.law.predict(configs[i]) or 1.0) * float(np.exp(m))
                found[i] |= {"latency_ms": ms, "latency_sd": ms * float(s)}
        if self.score is not None:
            mean, sd = self.score.predict(table)
            for i, m, s in zip(known, mean, sd, strict=True):
                found[i] |= {"score": self.mean_score + float(m), "score_sd": float(s)}
        return found

    @property
    def words(self) -> str:
        parts = []
        if self.latency is not None:
            parts.append(f"Latency is predicted from {self.counts[0]} measured configurations: leave-one-out error "
                         f"{100 * self.latency.error:.1f} % (size law alone {100 * self.latency.null_error:.1f} %).")
        if self.score is not None:
            parts.append(f"The score is predicted from {self.counts[1]} trained ones: leave-one-out error "
                         f"{self.score.error:.3f} (always guessing the mean {self.score.null_error:.3f}).")
        return " ".join(parts) or f"Fewer than {AT_LEAST} trials are complete: nothing can be predicted yet."
