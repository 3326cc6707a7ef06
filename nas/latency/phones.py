"""Phones for those who have none: latencies predicted from published ones. Always labelled predicted.

Fitted to the FastViTs that Apple published for an iPhone 12 Pro at 256 px (fastvit/published.csv: seven presets and
the ablations V1 to V3; V4 and V5 are S12 and SA12 again, rounded). Four numbers, none negative: a constant, dense and
depthwise multiply-accumulates, and the elements of attention maps, which carry what attention in stage 3 costs there.
The size of the weights is left out on purpose: over the presets it fits as well as compute, and would make
resolution free.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import fastvit
from fastvit.config import FastViTConfig
from fastvit.presets import ABLATIONS, PRESETS
from nas.errors import UsageError
from nas.latency.features import features
from nas.latency.measurement import Measurement
from nas.latency.network import Network
from nas.latency.predictor import choices
from nas.latency.runtime import Setting
from nas.runs.run import now

PHONES = {"iphone12pro": "iPhone 12 Pro"}
RESOLUTION = 256
PRECISION = "fp16"
TERMS = ("constant", "dense GMACs", "depthwise GMACs", "attention maps, M elements")
_GROUPS = {"stem": 1, "dense macs": 1, "head": 1, "classifier": 1, "depthwise macs": 2, "attention macs": 1,
           "attention maps": 3}
# What the fit cannot know of networks unlike the published ones: relative standard deviation for each step of choice
# away from the nearest of them, and for each doubling of the pixels.
_STEP_SD, _PIXELS_SD = 0.02, 0.1
_LEAST_SD = 0.03  # published values of one network on two versions of iOS differ by more


def work(configs: Sequence[FastViTConfig], resolution: int) -> np.ndarray:
    """The four terms of each configuration (N, 4)."""
    found = features(configs, resolution)
    terms = np.zeros((len(configs), len(TERMS)))
    terms[:, 0] = 1.0
    for values, group in zip(found.values.T, found.groups, strict=True):
        if (term := _GROUPS.get(group)) is not None:
            terms[:, term] += values if term == 3 else values / 1e3
    return terms


@lru_cache(maxsize=1)
def published(phone: str = "iphone12pro") -> dict[str, float]:
    """Milliseconds by the name of a preset or an ablation; one value for each network."""
    names = {f"FastViT-{name.upper()}": name for name in PRESETS}
    names |= {f"FastViT ablation {name.upper()}": name for name in ABLATIONS}
    with Path(fastvit.__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] in names and row["device"] == PHONES[phone]
                and row["resolution"] == str(RESOLUTION) and row["runtime"].startswith("Core ML")]
    found: dict[str, float] = {}
    seen: dict[str, str] = {}
    for row in rows:  # the presets come first and are given to more digits
        name = names[row["model"]]
        if seen.setdefault(_config(name).key(), name) == name:
            found[name] = float(row["latency_ms"])
    return found


def _config(name: str) -> FastViTConfig:
    return (PRESETS | ABLATIONS)[name]


def refuse(networks: Sequence[Network], setting: Setting, protocol: str, device: str) -> None:
    """Refuse what was never published for this phone.

    Raises:
        UsageError: with the value and what is predicted.
    """
    for network in networks:
        if network.config is None:
            raise UsageError(f"{network.name}: {device} predicts FastViT configurations only; "
                             "fastvit/published.csv holds what was published about others")
    for name, value, only in (("batch", setting.batch, 1), ("threads", setting.threads, 1),
                              ("precision", setting.precision, PRECISION), ("protocol", protocol, "interleaved")):
        if value != only:
            raise UsageError(f"--{name} {value}: {device} predicts published latencies (batch 1, {PRECISION}); "
                             "leave it out")
    if setting.resolution < 32:
        raise UsageError(f"--resolution {setting.resolution}: expected at least 32")


def measurements(networks: Sequence[Network], device: str, resolution: int) -> list[Measurement]:
    """Predictions in the shape of measurements, with their origin."""
    configs = [network.config for network in networks if network.config is not None]
    ms, low, high, outside = predict(configs, device, resolution)
    return [Measurement(network.name, network.key, device, "predicted", resolution, float(ms[i]), float(low[i]),
                        float(high[i]), precision=PRECISION, protocol="fit-1", runtime=words(device),
                        flags=("extrapolated",) if outside[i] else (), measured_at=now())
            for i, network in enumerate(networks)]


def words(device: str) -> str:
    return f"fitted to {len(published(device))} latencies published for an {PHONES[device]}"


@dataclass(frozen=True)
class Fit:
    """Milliseconds a unit of each term, and what its interval is made of."""

    costs: np.ndarray
    sd: float  # relative, of a published value that was left out
    inverse: np.ndarray  # of the information in the relative design
    points: np.ndarray
    range_ms: tuple[float, float]
    count: int


def fitted(names: Sequence[str], phone: str = "iphone12pro") -> Fit:
    """Non-negative least squares of the relative error over the named networks."""
    ms = np.array([published(phone)[name] for name in names])
    configs = [_config(name) for name in names]
    terms = work(configs, RESOLUTION)
    costs = _solve(terms, ms)
    kept = [[i for i in range(len(ms)) if i != left] for left in range(len(ms))]
    # What only one network shows cannot be checked by leaving it out: its error is the leverage's to tell.
    missed = np.array([terms[i] @ _solve(terms[rest], ms[rest]) / ms[i] - 1 for i, rest in enumerate(kept)
                       if (terms[i] <= 2 * terms[rest].max(0)).all()])
    share = terms * costs.clip(1e-6) / ms[:, None]
    information = share.T @ share + 0.05 * np.eye(len(TERMS))
    return Fit(costs, max(_LEAST_SD, float(np.sqrt(np.mean(missed**2)))), np.linalg.inv(information), choices(configs),
               (float(ms.min()), float(ms.max())), len(ms))


def _solve(terms: np.ndarray, ms: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    return np.asarray(nnls(terms / ms[:, None], np.ones(len(ms)))[0])


@lru_cache(maxsize=4)
def _whole(phone: str) -> Fit:
    return fitted(tuple(published(phone)), phone)


def predict(configs: Sequence[FastViTConfig], phone: str = "iphone12pro", resolution: int = RESOLUTION,
            fit: Fit | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bool]]:
    """Milliseconds, the ends of their 95 % interval, and whether each lies outside of what was published."""
    from scipy.stats import t

    fit = fit or _whole(phone)
    parts = work(configs, resolution) * fit.costs
    ms = parts.sum(1)
    share = parts / ms[:, None]
    leverage = np.einsum("ij,jk,ik->i", share, fit.inverse, share)
    steps = np.sqrt(((choices(configs)[:, None] - fit.points[None])**2).sum(2)).min(1)
    doublings = abs(float(np.log2(resolution / RESOLUTION))) * 2
    sd = np.sqrt(fit.sd**2 * (1 + leverage) + (_STEP_SD * steps)**2 + (_PIXELS_SD * doublings)**2)
    factor = np.exp(t.ppf(0.975, fit.count - len(TERMS)) * sd)
    low, high = fit.range_ms
    outside = [bool(resolution != RESOLUTION or not 0.9 * low <= one <= 1.1 * high) for one in ms]
    return ms, ms / factor, ms * factor, outside


def leave_one_out(phone: str = "iphone12pro") -> list[tuple[str, float, float, float, float]]:
    """Name, published ms, and what the fit to all others predicts with its interval."""
    names = list(published(phone))
    found = []
    for name in names:
        others = fitted([other for other in names if other != name], phone)
        ms, low, high, _ = predict([_config(name)], phone, fit=others)
        found.append((name, published(phone)[name], float(ms[0]), float(low[0]), float(high[0])))
    return found
