"""Latency predicted from what was measured: a few networks calibrate it, and every further measurement improves it.

Two parts, both fitted in milliseconds. A sum of closed-form work with non-negative costs (features.py), where the
costs of one kind of work in the four stages are pulled towards each other: as many unknowns as kinds, while data are
few. And a Gaussian process over what that leaves, which lets each cost and each choice deviate, and says how
uncertain a prediction is. Errors are relative throughout. A prediction gates and proposes; it is never shown as
a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.errors import Failure, UsageError
from nas.files import write_json
from nas.latency.cache import device_place, stored_predictor
from nas.latency.choices import choices
from nas.latency.devices import canonical, runtime
from nas.latency.features import ROUGH, Features, features
from nas.latency.runtime import Setting

LEAST = 4  # measurements before anything is predicted
MOST = 400  # the newest are kept; a fit stays within a tenth of a second
# Chosen on 140 networks at 64 px and 70 at 256 px (docs/LOG.md); all are relative.
_POOLING = 5.0  # how strongly the costs of one kind of work agree over the stages
_COST_SD = 0.3  # by how much the cost of one kind in one stage may still deviate
_CHOICE_SD, _LENGTH = 0.03, 6.0  # what no kind of work explains, and over how many choices it is alike
_SESSION_SD = 0.02  # between sessions on a busy machine, beyond the interval of one
_SCALE_SD = 1.0  # of the whole level
_RIDGE = 1e-3
_ROUGHLY = 1.0
_DOUBT = 8
_OTHER_SPEED = 0.05  # of the reference network, relative: from here on what was measured before is rescaled


class Predictor:
    """Predicts one device under one setting."""

    def __init__(self, device: str, setting: Setting) -> None:
        self.device, self.setting = device, setting
        self.configs: list[FastViTConfig] = []
        self.ms = np.zeros(0)
        self.sd = np.zeros(0)  # relative, of each measurement
        self.reference_ms: float | None = None  # how fast the machine was then; None: not known
        self._model: _Model | None = None

    @classmethod
    def for_device(cls, device: str, *, resolution: int = 256, batch: int = 1, threads: int = 1,
                   precision: str | None = None) -> Predictor:
        """An empty one."""
        return cls(canonical(device), Setting(resolution, batch, threads, precision or runtime(device).precisions[0]))

    @classmethod
    def load_or_none(cls, device: str, *, resolution: int = 256, batch: int = 1, threads: int = 1,
                     precision: str | None = None) -> Predictor | None:
        """The one that `search.py calibrate` saved on this machine under the same conditions."""
        found = cls.for_device(device, resolution=resolution, batch=batch, threads=threads, precision=precision)
        try:
            values = json.loads(found.path.read_text())
            found.reference_ms = values.get("reference_ms")
            return found.fit([FastViTConfig.from_dict(config) for config in values["configs"]], values["ms"],
                             values["sd"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def of_run(cls, device: str, resolution: int, precision: str | None = None) -> Predictor:
        """What a search begins with: the calibrated one, or one that knows nothing yet. Any name of a device will do,
        for a run may be read where its device is not."""
        try:
            found = cls.load_or_none(device, resolution=resolution, precision=precision)
        except (UsageError, Failure):
            found = None
        return found or cls(device, Setting(resolution, precision=precision or Setting().precision))

    @property
    def path(self) -> Path:
        return stored_predictor(device_place(runtime(self.device), self.setting))

    def save(self) -> None:
        """Keep the measurements, from which fitting takes no time; a later version may fit them better."""
        write_json(self.path, {"configs": [config.to_dict() for config in self.configs], "ms": self.ms.tolist(),
                               "sd": self.sd.tolist(), "reference_ms": self.reference_ms}
                   | device_place(runtime(self.device), self.setting))

    @property
    def ready(self) -> bool:
        return self._model is not None

    def fit(self, configs: Sequence[FastViTConfig], ms: Sequence[float] | np.ndarray,
            sd: Sequence[float] | np.ndarray | None = None) -> Predictor:
        """Fit to these measurements alone. `sd` is relative, that of one session; a hundredth when not given."""
        self.configs = list(configs)[-MOST:]
        self.ms = np.asarray(ms, float)[-MOST:]
        self.sd = (np.full(len(self.ms), 0.01) if sd is None else np.asarray(sd, float))[-MOST:]
        self._model = None
        if len(self.configs) >= LEAST:
            self._model = _Model(self._features(self.configs), choices(self.configs), self.ms, self.sd)
        return self

    def update(self, records: Iterable[Any]) -> int:
        """Add what a run has measured (its trials; others are passed over) and fit again; how many were new.
        What was known from a time when the machine was faster or slower is rescaled by the reference network."""
        records = list(records)
        self.rescale([r.latency.reference_ms for r in records if r.latency is not None and r.origin == "measured"])
        known = {config.key() for config in self.configs}
        configs, ms, sd = list(self.configs), list(self.ms), list(self.sd)
        for record in records:
            if record.origin != "measured" or not record.config or not record.latency_ms or record.config_key in known:
                continue
            known.add(record.config_key)
            configs.append(record.config)
            ms.append(record.latency_ms)
            sd.append(record.latency.relative_sd)
        new = len(configs) - len(self.configs)
        if new:
            self.fit(configs, ms, sd)
        return new

    def rescale(self, references: Sequence[float | None]) -> None:
        """What is known to the speed at which the reference network took `references` (ms) just now."""
        seen = [ms for ms in references if ms]
        if not seen:
            return
        now_ms = float(np.median(seen))
        if self.reference_ms and abs(np.log(now_ms / self.reference_ms)) > _OTHER_SPEED:
            self.fit(self.configs, self.ms * now_ms / self.reference_ms, self.sd)
            self.reference_ms = now_ms
        self.reference_ms = self.reference_ms or now_ms

    def predict(self, configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and their standard deviation (N,), (N,); not a number before LEAST measurements."""
        if self._model is None or not configs:
            return np.full(len(configs), np.nan), np.full(len(configs), np.nan)
        log_ms, sd = self._model.predict(self._features(configs), choices(configs))
        ms = np.exp(log_ms)
        return ms, ms * sd

    def cross_validated(self, folds: int = 10) -> np.ndarray:
        """Relative error of each measurement, predicted from the other folds."""
        indices = np.arange(len(self.configs))
        found = np.full(len(indices), np.nan)
        for fold in range(folds):
            held = indices % folds == fold
            if not held.any() or (~held).sum() < LEAST:
                continue
            kept = indices[~held]
            part = Predictor(self.device, self.setting).fit([self.configs[i] for i in kept], self.ms[kept],
                                                            self.sd[kept])
            found[held] = part.predict([self.configs[i] for i in indices[held]])[0] / self.ms[held] - 1
        return found

    def _features(self, configs: Sequence[FastViTConfig]) -> Features:
        return features(configs, self.setting.resolution)


class _Model:
    """What `fit` finds: costs, and the weights of the Gaussian process over the logarithm of what they miss."""

    def __init__(self, work: Features, points: np.ndarray, ms: np.ndarray, sd: np.ndarray) -> None:
        self.costs = _costs(work, ms)
        shares, log_ms = self._shares(work)
        self.shares, self.points = shares, points
        residual = np.log(ms) - log_ms
        self.level = float(np.median(residual))
        noise = np.diag(sd**2 + _SESSION_SD**2)
        kernel = self._kernel(shares, points) + noise
        self.inverse = np.linalg.inv(kernel)
        self.weights = self.inverse @ (residual - self.level)
        # The error of predicting each from the others against what the kernel expects. The costs have seen them all,
        # which flatters a fit to few: hence the doubt of three standard deviations, worth _DOUBT measurements.
        spread = 1 / np.diag(self.inverse)
        surprise = self.weights**2 * spread
        self.widen = float(np.sqrt((surprise.sum() + 9 * _DOUBT) / (len(ms) + _DOUBT)))

    def _shares(self, work: Features) -> tuple[np.ndarray, np.ndarray]:
        parts = work.values * self.costs
        total = parts.sum(1, keepdims=True)
        return parts / total, np.log(total[:, 0])

    def _kernel(self, shares: np.ndarray, points: np.ndarray) -> np.ndarray:
        square = (points**2).sum(1)[:, None] + (self.points**2).sum(1) - 2 * points @ self.points.T
        far = np.sqrt(5 * np.maximum(square, 0)) / _LENGTH
        return (_SCALE_SD**2 + _COST_SD**2 * shares @ self.shares.T
                + _CHOICE_SD**2 * (1 + far + far**2 / 3) * np.exp(-far))

    def predict(self, work: Features, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares, log_ms = self._shares(work)
        kernel = self._kernel(shares, points)
        own = _SCALE_SD**2 + _COST_SD**2 * (shares**2).sum(1) + _CHOICE_SD**2
        variance = own - np.einsum("ij,jk,ik->i", kernel, self.inverse, kernel, optimize=True)
        return (log_ms + self.level + kernel @ self.weights,
                self.widen * np.sqrt(np.maximum(variance, 0) + _SESSION_SD**2 / 4))


def _costs(work: Features, ms: np.ndarray) -> np.ndarray:
    """Milliseconds a unit of each column: non-negative least squares of the relative error.

    One more unknown for each kind of work is the cost that its stages share; a stage's deviation from it is
    penalized, and a little also the deviation of the kinds from the proportions of a rough device, for few networks
    cannot tell sixteen kinds apart. What nothing is known about keeps a share, so that it can be learned later.
    """
    from scipy.optimize import nnls

    share = work.values / ms[:, None]
    typical = np.sqrt((share**2).mean(0))
    seen = np.flatnonzero(typical > 0)
    groups = list(dict.fromkeys(work.groups[i] for i in seen))
    level = {group: np.mean([typical[i] for i in seen if work.groups[i] == group]) for group in groups}
    rows, columns = len(ms), len(seen)
    matrix = np.zeros((rows + 2 * columns + len(groups), columns + len(groups) + 1))
    wanted = np.zeros(len(matrix))
    matrix[:rows, :columns], wanted[:rows] = share[:, seen] / typical[seen], 1.0
    for k, i in enumerate(seen):
        group = work.groups[i]
        matrix[rows + k, k] = _POOLING
        matrix[rows + k, columns + groups.index(group)] = -_POOLING * typical[i] / level[group]
        matrix[rows + columns + k, k] = _RIDGE
    for k, group in enumerate(groups):  # the last unknown: how fast this device is beside the rough one
        matrix[rows + 2 * columns + k, columns + k] = _ROUGHLY
        matrix[rows + 2 * columns + k, -1] = -_ROUGHLY * ROUGH[group] * level[group]
    found, _ = nnls(matrix, wanted, maxiter=100 * matrix.shape[1])
    costs = np.zeros(len(typical))
    costs[seen] = found[:columns] / typical[seen]
    alike = dict(zip(groups, found[columns:-1] / np.array([level[group] for group in groups]), strict=True))
    scale = work.values.mean(0)
    for column, group in enumerate(work.groups):
        least = 0.3 * alike.get(group, 0.0) or (0.003 * float(np.median(ms)) / scale[column] if scale[column] else 0.0)
        costs[column] = max(costs[column], least)
    return costs
