"""Calibrate the predictor of a device: which networks to measure, in which order, and for how long."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.errors import Failure, NotAvailable
from nas.latency.features import ROUGH, Features, features
from nas.latency.predictor import LEAST, Predictor
from nas.latency.runtime import Setting
from nas.latency.service import measure, measure_many
from nas.runs.measurement import Measurement
from space import SearchSpace

SECONDS = 60.0
HALF_WIDTH = 0.05  # sessions on a busy machine differ by half of it: more networks tell more than narrower intervals
GROUP = 4  # networks that share one session, its reference and its warm-up
_CANDIDATES, _DESIGNED, _PRIOR = 300, 120, 0.05
_OVERHEAD_MS = 30.0  # building a network, in units of one inference: thirty are timed at least


def design(space: SearchSpace, resolution: int, seed: int = 0) -> Iterator[FastViTConfig]:
    """Configurations of `space`, the most telling first: each adds most information about the costs for its time
    (D-optimal, greedily, over the shares that each kind of work has in a network)."""
    rng = np.random.default_rng(seed)
    pool = list({config.key(): config for config in (space.sample(rng) for _ in range(_CANDIDATES))}.values())
    shares, rough_ms = _shares(features(pool, resolution))
    seconds = 1 + rough_ms / _OVERHEAD_MS
    inverse = np.eye(shares.shape[1]) / _PRIOR**2
    left = np.ones(len(pool), bool)
    for _ in range(min(_DESIGNED, len(pool))):
        gain = np.log1p(np.einsum("ij,jk,ik->i", shares, inverse, shares)) / seconds
        chosen = int(np.where(left, gain, -np.inf).argmax())
        left[chosen] = False
        along = inverse @ shares[chosen]
        inverse -= np.outer(along, along) / (1 + shares[chosen] @ along)
        yield pool[chosen]


def _shares(work: Features) -> tuple[np.ndarray, np.ndarray]:
    parts = work.values * np.array([ROUGH[group] for group in work.groups])
    total = parts.sum(1)
    return parts / total[:, None], total


@dataclass(frozen=True)
class Calibration:
    """What a calibration found. The errors are relative, of networks that the fit had not seen (ten folds)."""

    predictor: Predictor
    seconds: float
    errors: np.ndarray
    failed: int
    times: np.ndarray  # seconds after which each of the predictor's networks was known; 0 from earlier calibrations

    @property
    def mape(self) -> float:
        return float(np.nanmean(np.abs(self.errors))) if np.isfinite(self.errors).any() else float("nan")


def calibrate(device: str, setting: Setting, *, space: SearchSpace | None = None, seconds: float = SECONDS,
              tell: Callable[[int, float], None] | None = None, seed: int = 0) -> Calibration:
    """Measure designed networks for `seconds`, fit and save the predictor. What it learned before stays in it.

    Raises:
        NotAvailable, UsageError: as measuring does.
        Failure: too few networks could be measured.
    """
    known = Predictor.load_or_none(device, resolution=setting.resolution, batch=setting.batch,
                                   threads=setting.threads, precision=setting.precision)
    predictor = known or Predictor(device, setting)
    configs, ms, sd = list(predictor.configs), predictor.ms.tolist(), predictor.sd.tolist()
    done = {config.key() for config in configs}
    failures: list[str] = []
    begun, longest = time.perf_counter(), 0.0
    times = [0.0] * len(configs)
    references: list[float | None] = []
    waiting = (config for config in design(space or SearchSpace.load("default"), setting.resolution, seed)
               if config.key() not in done)
    while group := list(itertools.islice(waiting, GROUP)):
        started = time.perf_counter()
        if seconds - (started - begun) < longest / 2:
            break
        found = _measured(group, device, setting, failures)
        if len(failures) >= GROUP and not configs and not found:
            raise Failure(failures[-1])
        # The first group pays for starting the measuring process and for the reference networks.
        longest = max(longest, time.perf_counter() - started) if configs else 0.0
        for config, one in found:
            configs.append(config)
            ms.append(one.latency_ms)
            sd.append(one.relative_sd)
            references.append(one.reference_ms)
            times.append(time.perf_counter() - begun)
        if tell:
            tell(len(configs), time.perf_counter() - begun)
    if len(configs) < LEAST:
        raise Failure(f"only {len(configs)} networks could be measured in {seconds:g} s, {LEAST} are needed"
                      + (f" ({failures[-1]})" if failures else ""))
    predictor.rescale(references)
    ms[:len(predictor.ms)] = predictor.ms.tolist()
    predictor.fit(configs, ms, sd).save()
    return Calibration(predictor, time.perf_counter() - begun, predictor.cross_validated(), len(failures),
                       np.array(times))


def _measured(group: list[FastViTConfig], device: str, setting: Setting,
              failures: list[str]) -> list[tuple[FastViTConfig, Measurement]]:
    """The group in one session; one by one when that fails, so that one network cannot take the others with it."""
    how: dict[str, Any] = asdict(setting) | {"half_width": HALF_WIDTH}
    try:
        return list(zip(group, measure_many(group, device, **how), strict=True))
    except NotAvailable:
        raise
    except Failure:
        found = []
        for config in group:
            try:
                found.append((config, measure(config, device, **how)))
            except Failure as error:
                failures.append(str(error))
        return found


def nulls(configs: Sequence[FastViTConfig], ms: np.ndarray, others: Sequence[FastViTConfig],
          resolution: int) -> dict[str, np.ndarray]:
    """What a predictor has to beat: a line through GMACs, and one through activations, fitted to the same data."""
    from fastvit.cost import cost

    found = {}
    for name in ("gmacs", "activations_m"):
        seen, unseen = (np.array([getattr(cost(config, resolution), name) for config in chosen])
                        for chosen in (configs, others))
        (slope, level), *_ = np.linalg.lstsq(np.stack([seen, np.ones(len(seen))], 1) / ms[:, None],
                                             np.ones(len(seen)), rcond=None)
        found[name] = np.maximum(slope * unseen + level, 1e-6)
    return found
