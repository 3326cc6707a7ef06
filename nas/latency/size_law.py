"""The null of every latency predictor: a power law of size. A predictor is worth what it gains on this."""

from __future__ import annotations

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.runs.trial import Trial


class SizeLaw:
    """Latency from GMACs, activations and depth by a power law fitted to what a run has measured."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution
        self._weights: np.ndarray | None = None

    def fit(self, records: list[Trial]) -> None:
        measured = [r for r in records if r.config and r.origin == "measured" and r.latency_ms]
        if len(measured) < 4:
            return
        rows = np.array([self._row(r.architecture) for r in measured])
        target = np.log([r.latency_ms or np.nan for r in measured])
        # A little ridge: the presets alone nearly lie on a line.
        self._weights = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(rows.shape[1]), rows.T @ target)

    def _row(self, config: FastViTConfig) -> np.ndarray:
        size = cost(config, self.resolution)
        return np.array([1.0, np.log(size.gmacs), np.log(size.activations_m), np.log(sum(config.depths))])

    def predict(self, config: FastViTConfig) -> float | None:
        """Latency in ms, or None before enough was measured."""
        return None if self._weights is None else float(np.exp(self._row(config) @ self._weights))
