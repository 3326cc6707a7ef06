"""Top-1 of full-width networks on a user's images, estimated before they are trained: the one estimate that proposals,
fronts, pages and `search.py score` share.

The prior is a law of size and shape, fitted to whole networks on real images (FastViT-Bench's rows and the published
FastViTs): linear in a few features on the logit scale, with a level for each data set, a slope that data sets share and
one by which they differ, and a Matern term for what similar configurations share beyond size. A run moves it in two
ways. Whole networks that it trained on the same images are observations like the others. Its proxies move a
configuration against others of its size by no more than proxies of that kind agree with whole networks where both are
known (Agreement), times how far the run's own proxies agree with themselves. Evidence that says nothing so moves
nothing, and what is left is that the larger network at the same latency wins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.presets import ABLATIONS, PRESETS
from nas.bench.real_images import truth_rows
from nas.estimate.surrogate import Surrogate, encode, size_features

UNIT = "top-1, share of the images"
LAW = Path(__file__).parents[1] / "bench" / "accuracy_law.json"  # python -m nas.bench law
IMAGENET = "imagenet"
_BESIDE = {name: getattr(PRESETS["t8"], name) for name in ("widths", "depths", "mlp_ratios")}
# About one standard deviation over the default space each; the four totals, which say nearly the same, half of it.
_SCALES = np.array([0.5] * 4 + [2.5] * 3 + [2.0] * 2)
_PUBLISHED_SE = 0.15  # points, between trainings of one published network


@dataclass(frozen=True)
class Whole:
    """A network trained at full width: top-1 as a share and its standard deviation.

    Observations of one `task`, "DATA SET/PROTOCOL", share a level: the same images, pixels and training. Those of one
    data set share what it asks of a network, and more of the level than those of two.
    """

    task: str
    config: FastViTConfig
    top1: float
    sd: float
    ahead: float = 0.0  # what the logit is expected to gain by the training that is estimated, where that is longer

    @property
    def logit(self) -> float:
        return float(logit(self.top1)) + self.ahead


def gain(images: int, longer: int) -> float:
    """What a logit gains on average when a network sees `longer` images in training instead of `images`: 0.4 for each
    factor of e, between 20,000 and 100,000 images of CIFAR-10 (docs/LOG.md); what data sets differ by is a part of
    Spread.protocol."""
    return 0.4 * float(np.log(max(longer, 1) / max(images, 1)))


@dataclass(frozen=True)
class Spread:
    """Standard deviations on the logit scale, fitted by `python -m nas.bench law`.

    `level` between data sets, `protocol` between trainings on one, `slope` of each feature's weight, `own_slope` by
    which a data set's weights differ, `shape` of what similar configurations share on all data sets, `own_shape` on
    one, `chance` between seeds.
    """

    centre: float = 1.0
    level: float = 0.7
    protocol: float = 0.4
    slope: float = 0.1
    own_slope: float = 0.03
    shape: float = 0.03
    own_shape: float = 0.03
    chance: float = 0.03
    length: float = 2.0


def features(configs: Sequence[FastViTConfig]) -> np.ndarray:
    """What the law is linear in, each of order 1: (N, 9).

    Logarithms of GMACs, parameters, depth and activations; means over the stages of the logarithms of width, depth and
    FFN ratio beside T8's, by which a network that is starved in one stage is worth less than a balanced one of its
    size; share of the last two stages that mix by attention; mean size of the kernels.
    """
    return np.array([_features(config) for config in configs]).reshape(-1, 9) * _SCALES


@lru_cache(maxsize=20_000)
def _features(config: FastViTConfig) -> tuple[float, ...]:
    whole, config = config, config.in_four_stages()
    attention = sum(mixer == "attention" for mixer in config.mixers[2:]) / 2
    kernels = float(np.mean([*config.ffn_kernels, *config.patch_kernels]))
    beside = [float(np.mean(np.log(np.divide(own, _BESIDE[name])))) for name, own in (
        ("widths", config.widths), ("depths", config.depths), ("mlp_ratios", config.mlp_ratios))]
    return *size_features(whole).tolist(), *beside, attention, (kernels - 5) / 4


@lru_cache(maxsize=20_000)
def _encoded(config: FastViTConfig) -> tuple[float, ...]:
    return tuple(encode(config).tolist())


def logit(share: np.ndarray | float) -> np.ndarray:
    clipped = np.clip(share, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(clipped / (1 - clipped)))


def shipped_whole() -> list[Whole]:
    """What is known before any run: FastViT-Bench's rows of real images, and the published FastViTs."""
    from nas.estimate.imagenet import published_top1

    named = {f"FastViT-{name.upper()}": config for name, config in PRESETS.items()}
    named |= {f"FastViT ablation {name.upper()}": config for name, config in ABLATIONS.items()}
    return [Whole(row.protocol, row.config, row.top1 / 100, row.se / 100) for row in truth_rows()] + [
        Whole(IMAGENET, named[name], top1 / 100, _PUBLISHED_SE / 100) for name, (_, top1) in published_top1().items()]


def _matern(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    from scipy.spatial.distance import cdist

    d = np.sqrt(5.0) * cdist(a, b) / length
    return np.asarray((1 + d + d**2 / 3) * np.exp(-d))


def covariance(spread: Spread, one: tuple[Sequence[FastViTConfig], Sequence[str]],
               other: tuple[Sequence[FastViTConfig], Sequence[str]]) -> np.ndarray:
    """Prior covariance of logits between configurations on their data sets: (N, M)."""
    x, y = features(one[0]), features(other[0])
    same = _same(one[1], other[1])
    alike = _same([data_set(task) for task in one[1]], [data_set(task) for task in other[1]])
    linear = x @ y.T
    shape = _matern(np.array([_encoded(c) for c in one[0]]), np.array([_encoded(c) for c in other[0]]), spread.length)
    return np.asarray(spread.slope**2 * linear + spread.shape**2 * shape + same * spread.protocol**2
                      + alike * (spread.level**2 + spread.own_slope**2 * linear + spread.own_shape**2 * shape))


def _same(one: Sequence[str], other: Sequence[str]) -> np.ndarray:
    return np.asarray(one, object)[:, None] == np.asarray(other, object)[None, :]


def data_set(task: str) -> str:
    return task.partition("/")[0]


@dataclass(frozen=True)
class Estimates:
    """Logits of configurations: mean (N,) and covariance (N, N), which holds the level that all of them share."""

    mean: np.ndarray
    covariance: np.ndarray

    @property
    def top1(self) -> np.ndarray:
        return 1 / (1 + np.exp(-self.mean))

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of each top-1, as a share: (N,)."""
        return np.sqrt(np.diagonal(self.covariance)) * self.top1 * (1 - self.top1)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the central interval that holds top-1 with probability `level`, as shares."""
        from scipy.stats import norm

        half = norm.ppf(0.5 + level / 2) * np.sqrt(np.diagonal(self.covariance))
        low, high = self.mean - half, self.mean + half
        return 1 / (1 + np.exp(-low)), 1 / (1 + np.exp(-high))

    def beats(self, one: int, other: int) -> float:
        """Probability that configuration `one` reaches more than `other`."""
        from scipy.stats import norm

        c = self.covariance
        spread = np.sqrt(max(1e-12, c[one, one] + c[other, other] - 2 * c[one, other]))
        return float(norm.cdf((self.mean[one] - self.mean[other]) / spread))


@dataclass(frozen=True)
class Agreement:
    """How proxies of one kind agree with whole networks beyond the law: the correlation of what is left of both, and
    over how many configurations it was found."""

    correlation: float
    configurations: int

    @property
    def believed(self) -> float:
        """The correlation shrunk towards 0 by its own standard error; never below 0."""
        prior = 0.5**2
        error = 1 / max(1, self.configurations - 5)
        return max(0.0, self.correlation * prior / (prior + error))


# 120 steps of quarter-width proxies from a parent on CIFAR-10, against whole networks there (docs/LOG.md).
AGREEMENT = Agreement(0.7, 14)


class AccuracyModel:
    """Estimates on the images of `task`, from what ships and from what a run has trained on them.

    Args:
        task: "DATA SET/PROTOCOL": names the level, of the same images, pixels and training.
        whole: networks that the run trained whole, on the same data set.
        known: what is known beside them; None: what ships.
    """

    def __init__(self, task: str, whole: Sequence[Whole] = (), *, known: Sequence[Whole] | None = None,
                 spread: Spread | None = None) -> None:
        from scipy.linalg import cho_factor, cho_solve

        self.task, self.spread = task, spread or fitted_spread()
        self.rows = [*(shipped_whole() if known is None else known), *whole]
        self._at = ([row.config for row in self.rows], [row.task for row in self.rows])
        y = np.array([row.logit for row in self.rows])
        self._factor = cho_factor(covariance(self.spread, self._at, self._at) + np.diag(_noise(self.rows, self.spread)))
        self._weights = cho_solve(self._factor, y - self.spread.centre)
        self._proxies: tuple[Surrogate, Any, float, float] | None = None

    @property
    def own(self) -> list[Whole]:
        """What is known of exactly these images."""
        return [row for row in self.rows if data_set(row.task) == data_set(self.task)]

    @property
    def proxies_believed(self) -> float:
        """The correlation beyond size at which proxies move the estimate; 0 where none do."""
        return 0.0 if self._proxies is None else self._proxies[3]

    def believe(self, proxies: Surrogate, among: Sequence[FastViTConfig], agreement: Agreement) -> AccuracyModel:
        """Let the posterior of a run's proxies move configurations against others of which the law thinks the same.

        Args:
            among: the configurations that the run trained: what is usual among them is what the law explains.
        """
        mean, sd = proxies.predict(among)
        known = self._mean(among)
        # A parabola, since the scores of large networks lie closer together than their accuracies.
        usual = np.polynomial.Polynomial.fit(known, mean, min(2, len(set(known.tolist())) - 1))
        # What the posterior does not know counts as spread, so one that has learned nothing moves nothing.
        scale = float(np.sqrt(np.var(mean - usual(known)) + np.mean(sd**2)))
        self._proxies = proxies, usual, max(scale, 1e-6), agreement.believed
        return self

    def _mean(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        """Logits without what proxies say: (N,)."""
        across = covariance(self.spread, (configs, [self.task] * len(configs)), self._at)
        return np.asarray(self.spread.centre + across @ self._weights)

    def predict(self, configs: Sequence[FastViTConfig]) -> Estimates:
        from scipy.linalg import cho_solve

        at = (configs, [self.task] * len(configs))
        across = covariance(self.spread, at, self._at)
        mean = self._mean(configs)
        left = covariance(self.spread, at, at) - across @ cho_solve(self._factor, across.T)
        left[np.diag_indices(len(configs))] += self.spread.chance**2  # a network is trained once
        if self._proxies is not None:
            proxies, usual, scale, believed = self._proxies
            found, _ = proxies.predict(configs)
            off = (found - usual(mean)) / scale
            beyond = float(np.hypot(self.spread.shape, self.spread.own_shape))
            mean = mean + believed * beyond * np.clip(off, -3, 3)
        return Estimates(mean, left)


def _noise(rows: Sequence[Whole], spread: Spread) -> np.ndarray:
    """Variances of the observed logits about what the configuration is worth: sampling, and the seed's chance."""
    shares = np.clip([row.top1 for row in rows], 0.01, 0.99)
    return np.square([row.sd for row in rows] / (shares * (1 - shares))) + spread.chance**2


@lru_cache(maxsize=1)
def fitted_spread() -> Spread:
    """As it ships."""
    return Spread(**json.loads(LAW.read_text(encoding="utf-8"))["spread"]) if LAW.exists() else Spread()


def fit_spread(rows: Sequence[Whole]) -> Spread:
    """The spreads that make `rows` most likely, under weak priors that hold where few rows speak."""
    from scipy.optimize import minimize

    start = Spread()
    names = [name for name in asdict(start) if name not in ("centre", "length", "level", "protocol")]
    at = ([row.config for row in rows], [row.task for row in rows])
    y = np.array([row.logit for row in rows]) - start.centre

    def cost(logs: np.ndarray) -> float:
        spread = Spread(**asdict(start) | dict(zip(names, np.exp(logs).tolist(), strict=True)))
        k = covariance(spread, at, at) + np.diag(_noise(rows, spread))
        half = np.linalg.cholesky(k)
        white = np.linalg.solve(half, y)
        prior = np.array([getattr(start, name) for name in names])
        return float(0.5 * white @ white + np.log(np.diagonal(half)).sum()
                     + 0.5 * np.sum(((logs - np.log(prior)) / np.log(2.0))**2))

    found = minimize(cost, np.log([getattr(start, name) for name in names]), method="L-BFGS-B")
    return Spread(**asdict(start) | {name: round(float(value), 4)
                                     for name, value in zip(names, np.exp(found.x), strict=True)})
