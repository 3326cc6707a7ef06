"""Phones for those who have none: latencies predicted from published ones. Always labelled predicted.

Fitted to the FastViTs that Apple published for an iPhone 12 Pro at 256 px (fastvit/published.csv: seven presets and
the ablations V1 to V3; V4 and V5 are S12 and SA12 again, rounded) and to relatives that others measured on the same
chip: MCi0 to MCi2 of MobileCLIP, MobileOne and RepViT, these two at 224 px (phone_networks.csv has their work, counted
by benchmarks/latency_phone.py). Four numbers, none negative: a constant, dense and depthwise multiply-accumulates, and
the elements of attention maps, which carry what attention in stage 3 costs there. The size of the weights is left out
on purpose: over the presets it fits as well as compute, and would make resolution free.

Publications of one network on one chip differ by a tenth, whatever the network: other versions of the system, other
tools. Each therefore has a factor of its own in the fit (a random effect), and a prediction is for the mean
publication, with their spread in its interval.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.presets import ABLATIONS, PRESETS
from fastvit.published import published as published_rows
from nas.clock import now
from nas.errors import UsageError
from nas.latency.choices import choices
from nas.latency.features import features
from nas.latency.network import Network
from nas.latency.runtime import Setting
from nas.runs.measurement import Measurement, Origin

PHONES = {"iphone12pro": "iPhone 12 Pro"}
RESOLUTION = 256
PRECISION = "fp16"
TERMS = ("constant", "dense GMACs", "depthwise GMACs", "attention maps, M elements")
_GROUPS = {"stem": 1, "dense macs": 1, "head": 1, "classifier": 1, "depthwise macs": 2, "attention macs": 1,
           "attention maps": 3}
# What the fit cannot know of networks unlike the published ones: relative standard deviation for each step of choice
# away from the nearest of them, and for each doubling of the pixels.
_STEP_SD, _PIXELS_SD = 0.02, 0.1
_BEYOND_SD = 0.1  # and for each doubling of a kind of work beyond all that was published, by its share of the time
_LEAST_SD = 0.03  # published values of one network on two versions of iOS differ by more
# Between publications, relative: what their factors spread by, and as what the fit takes them to be drawn.
_SOURCE_SD = 0.1
_RELATIVES = Path(__file__).with_name("phone_networks.csv")
CHIP = ("iPhone 12", "iPhone 12 Pro", "iPhone 12 Pro Max")  # one chip, the A14


def work(configs: Sequence[FastViTConfig], resolution: int) -> np.ndarray:
    """The four terms of each configuration (N, 4)."""
    found = features(configs, resolution)
    terms = np.zeros((len(configs), len(TERMS)))
    terms[:, 0] = 1.0
    for values, group in zip(found.values.T, found.groups, strict=True):
        if (term := _GROUPS.get(group)) is not None:
            terms[:, term] += values if term == 3 else values / 1e3
    return terms


@dataclass(frozen=True)
class Known:
    """A published latency: of which network, by which publication, and the network's work (len(TERMS),)."""

    name: str
    source: str
    latency_ms: float
    terms: tuple[float, ...]
    config: FastViTConfig | None = None


@lru_cache(maxsize=1)
def published(phone: str = "iphone12pro") -> dict[str, float]:
    """Milliseconds by the name of a preset or an ablation; one value for each network."""
    names = {f"FastViT-{name.upper()}": name for name in PRESETS}
    names |= {f"FastViT ablation {name.upper()}": name for name in ABLATIONS}
    found: dict[str, float] = {}
    seen: dict[str, str] = {}
    for row in published_rows():  # the presets come first and are given to more digits
        if (row.model in names and row.device == PHONES[phone] and row.resolution == RESOLUTION
                and row.runtime.startswith("Core ML") and row.latency_ms is not None):
            name = names[row.model]
            if seen.setdefault(_config(name).key(), name) == name:
                found[name] = row.latency_ms
    return found


def _config(name: str) -> FastViTConfig:
    return (PRESETS | ABLATIONS)[name]


@lru_cache(maxsize=1)
def known(phone: str = "iphone12pro") -> tuple[Known, ...]:
    """All that the fit reads: the published FastViTs first, then their relatives on the same chip."""
    found = [Known(name, "FastViT", ms, tuple(work([_config(name)], RESOLUTION)[0]), _config(name))
             for name, ms in published(phone).items()]
    with _RELATIVES.open(encoding="utf-8", newline="") as file:
        counted = {(row["model"], int(row["resolution"])): (1.0, float(row["dense_gmacs"]), float(
            row["depthwise_gmacs"]), float(row["attention_maps_m"])) for row in csv.DictReader(file)}
    for row in published_rows():
        terms = counted.get((row.model, row.resolution or 0))
        if terms and row.device in CHIP and row.latency_ms is not None:
            found.append(Known(row.model, row.source, row.latency_ms, terms))
    # One publication trains a network by two recipes and times it once.
    return tuple({(one.name, one.source, one.latency_ms): one for one in found}.values())


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
                              ("precision", setting.precision, PRECISION), ("protocol", protocol, "warm")):
        if value != only:
            raise UsageError(f"--{name} {value}: {device} predicts published latencies (batch 1, {PRECISION}); "
                             "leave it out")
    if setting.resolution < 32:
        raise UsageError(f"--resolution {setting.resolution}: expected at least 32")


def measurements(networks: Sequence[Network], device: str, resolution: int) -> list[Measurement]:
    """Predictions in the shape of measurements, with their origin."""
    configs = [network.config for network in networks if network.config is not None]
    ms, low, high, outside = predict(configs, device, resolution)
    return [Measurement(network.name, network.key, device, Origin.PREDICTED, resolution, float(ms[i]), float(low[i]),
                        float(high[i]), precision=PRECISION, protocol="fit-2", runtime=words(device),
                        flags=("extrapolated",) if outside[i] else (), measured_at=now())
            for i, network in enumerate(networks)]


def words(device: str) -> str:
    count = len(known(device))
    return f"fitted to {count} latencies published for an {PHONES[device]} and its siblings of the same chip"


@dataclass(frozen=True)
class Fit:
    """Milliseconds a unit of each term, and what its interval is made of."""

    costs: np.ndarray
    factors: dict[str, float]  # of each publication, as a logarithm
    sd: float  # relative, of a published value that was left out, its publication's factor known
    inverse: np.ndarray  # of the information in the relative design
    most: np.ndarray  # of each term among the networks that it was fitted to
    points: np.ndarray
    range_ms: tuple[float, float]
    count: int


def fitted(rows: Sequence[Known]) -> Fit:
    """Non-negative least squares of the logarithms, each publication with a factor that is drawn towards 1.

    Raises:
        ValueError: no FastViT is among the rows.
    """
    own = [row.config for row in rows if row.config is not None]
    if not own:
        raise ValueError(f"{len(rows)} published latencies, none of a FastViT: expected at least one")
    ms = np.array([row.latency_ms for row in rows])
    terms = np.array([row.terms for row in rows])
    sources = [row.source for row in rows]
    costs, factors = _solve(terms, ms, sources)
    missed = []
    for left in range(len(rows)):
        rest = [index for index in range(len(rows)) if index != left]
        # What only one network shows cannot be checked by leaving it out: its error is the leverage's to tell.
        if (terms[left] <= 2 * terms[rest].max(0)).all():
            others, moved = _solve(terms[rest], ms[rest], [sources[index] for index in rest])
            missed.append(np.log(terms[left] @ others / ms[left]) + moved.get(sources[left], 0.0))
    share = terms * costs.clip(1e-6) / ms[:, None]
    information = share.T @ share + 0.05 * np.eye(len(TERMS))
    times = [row.latency_ms for row in rows if row.config is not None]
    return Fit(costs, factors, max(_LEAST_SD, float(np.sqrt(np.mean(np.square(missed))))), np.linalg.inv(information),
               terms.max(0), choices(own), (min(times), max(times)), len(rows))


def _solve(terms: np.ndarray, ms: np.ndarray, sources: Sequence[str]) -> tuple[np.ndarray, dict[str, float]]:
    """Costs (len(TERMS),) and the factor of each source: the most likely values where a source's factor is normal with
    _SOURCE_SD and a value's own error with _LEAST_SD."""
    from scipy.optimize import least_squares

    names = sorted(set(sources))
    at = np.array([names.index(source) for source in sources])
    count = terms.shape[1]

    def errors(values: np.ndarray) -> np.ndarray:
        factors = values[count:]
        guess = np.log(np.maximum(terms @ values[:count], 1e-9))
        return np.concatenate([(guess + factors[at] - np.log(ms)) / _LEAST_SD, factors / _SOURCE_SD])

    start = np.concatenate([np.full(count, 0.5), np.zeros(len(names))])
    low = np.concatenate([np.zeros(count), np.full(len(names), -np.inf)])
    found = least_squares(errors, start, bounds=(low, np.inf)).x
    return found[:count], dict(zip(names, found[count:].tolist(), strict=True))


@lru_cache(maxsize=4)
def _whole(phone: str) -> Fit:
    return fitted(known(phone))


def predict(configs: Sequence[FastViTConfig], phone: str = "iphone12pro", resolution: int = RESOLUTION,
            fit: Fit | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bool]]:
    """Milliseconds, the ends of their 95 % interval, and whether each lies outside of what was published."""
    from scipy.stats import t

    fit = fit or _whole(phone)
    ms, known_sd = _from_terms(work(configs, resolution), fit)
    steps = np.sqrt(((choices(configs)[:, None] - fit.points[None])**2).sum(2)).min(1)
    doublings = abs(float(np.log2(resolution / RESOLUTION))) * 2
    sd = np.sqrt(known_sd**2 + (_STEP_SD * steps)**2 + (_PIXELS_SD * doublings)**2)
    factor = np.exp(t.ppf(0.975, fit.count - len(TERMS)) * sd)
    low, high = fit.range_ms
    outside = [bool(resolution != RESOLUTION or not 0.9 * low <= one <= 1.1 * high) for one in ms]
    return ms, ms / factor, ms * factor, outside


def _from_terms(terms: np.ndarray, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of work (N, len(TERMS)), and their relative standard deviation, that of publications among it."""
    parts = terms * fit.costs
    ms = parts.sum(1)
    share = parts / ms[:, None]
    leverage = np.einsum("ij,jk,ik->i", share, fit.inverse, share)
    beyond = (share * np.log2(np.maximum(1.0, terms / fit.most))).sum(1)
    return ms, np.sqrt(fit.sd**2 * (1 + leverage) + _SOURCE_SD**2 + (_BEYOND_SD * beyond)**2)


@dataclass(frozen=True)
class LeftOut:
    """A published latency and what the fit to others predicts of it, with its 95 % interval."""

    name: str
    source: str
    latency_ms: float
    predicted_ms: float
    low_ms: float
    high_ms: float


def leave_one_out(phone: str = "iphone12pro") -> list[LeftOut]:
    """Each published FastViT, from all others and the relatives."""
    rows = known(phone)
    return [_left_out(row, fitted([other for other in rows if other.name != row.name]), phone)
            for row in rows if row.config is not None]


def leave_source_out(phone: str = "iphone12pro") -> list[LeftOut]:
    """Each published latency of a relative, from all that other publications say: as a new network on a new system."""
    rows = known(phone)
    return [_left_out(row, fitted([other for other in rows if other.source != row.source]), phone)
            for row in rows if row.config is None]


def _left_out(row: Known, fit: Fit, phone: str) -> LeftOut:
    from scipy.stats import t

    if row.config is not None:
        ms, low, high, _ = predict([row.config], phone, fit=fit)
    else:
        ms, sd = _from_terms(np.array([row.terms]), fit)
        factor = np.exp(t.ppf(0.975, fit.count - len(TERMS)) * sd)
        low, high = ms / factor, ms * factor
    return LeftOut(row.name, row.source, row.latency_ms, float(ms[0]), float(low[0]), float(high[0]))
