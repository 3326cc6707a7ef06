"""Which network to take: one named pick under a budget, what it ties with, and what more time would buy.

The pick is the point with the highest score; among trained or confirmed points where there are any, since the highest
of many single estimates is too high (the winner's curse). Beside it stands the fastest point that is not
distinguishably worse, and what it gives up: as a pick it would lose more against the truth than the highest score does
(benchmarks/recommendation.py). Terminal, JSON, dashboard, report and export card all ask `recommend`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost, memory_mb
from fastvit.difference import in_words, nearest_preset
from fastvit.presets import PRESETS
from nas.runs.trial import Source
from nas.search.front import eligible, front_of

if TYPE_CHECKING:
    from nas.runs.run import Trial

SURE = 2.0  # standard deviations of a difference from which on it is beyond doubt
MORE = 0.10  # the share of more time that a reader may ask about
LARGEST, NEAREST = "largest", "nearest"  # what a point stands beside, besides a preset's own name
BYTES = 4  # of a weight in float32


@dataclass(frozen=True)
class Limits:
    """What a network has to meet beside the budget; None: anything will do. Sizes and memory are of float32."""

    least_score: float | None = None
    most_params_m: float | None = None
    most_size_mb: float | None = None
    most_memory_mb: float | None = None
    most_iphone_ms: float | None = None  # predicted for an iPhone 12 Pro at 256 px

    def meets(self, record: Trial, resolution: int, num_classes: int) -> bool:
        """Whether a trial's score and size meet every limit."""
        score = record.shown
        if self.least_score is not None and (score is None or score.value < self.least_score):
            return False
        sizes = ((self.most_params_m, lambda c: cost(c, resolution, num_classes).params_m),
                 (self.most_size_mb, lambda c: size_mb(c, num_classes)),
                 (self.most_memory_mb, lambda c: memory_mb(c, resolution, num_classes)),
                 (self.most_iphone_ms, iphone_ms))
        asked = [(most, of) for most, of in sizes if most is not None]
        return not asked or (bool(record.config) and all(of(record.architecture) <= most for most, of in asked))

    def words(self) -> str:
        """Such as "score at least 0.5, at most 4 M parameters"; empty without a limit."""
        said = ((self.least_score, "score at least {:g}"), (self.most_params_m, "at most {:g} M parameters"),
                (self.most_size_mb, "at most {:g} MB of weights"), (self.most_memory_mb, "at most {:g} MB of memory"),
                (self.most_iphone_ms, "at most {:g} ms predicted on an iPhone 12 Pro"))
        return ", ".join(text.format(value) for value, text in said if value is not None)

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) is not None for one in fields(self))


def size_mb(config: FastViTConfig, num_classes: int) -> float:
    """The fused network's weights as a float32 file, in MB of 1e6 bytes."""
    return BYTES * cost(config, 32, num_classes).params_m


@lru_cache(maxsize=4096)
def iphone_ms(config: FastViTConfig) -> float:
    """Latency that is predicted for an iPhone 12 Pro at 256 px from what was published (nas/latency/phones.py)."""
    from nas.latency.phones import predict

    return float(predict([config], "iphone12pro")[0][0])


@dataclass(frozen=True)
class Delta:
    """How a network stands to a preset that the run measured beside it."""

    preset: str
    latency_ms: float
    latency_percent: float
    latency_apart: bool  # whether the 95 % intervals of the two latencies are apart
    score: float | None
    score_sd: float | None
    changes: str  # what turns the preset into the network

    @property
    def figures(self) -> str:
        """Such as "+10 % time, score +0.098 ± 0.014"."""
        text = f"{self.latency_percent:+.0f} % time" + ("" if self.latency_apart else " (the intervals overlap)")
        if self.score is not None:
            text += f", score {self.score:+.3f}" + (f" ± {self.score_sd:.3f}" if self.score_sd else "")
            if self.score_sd and abs(self.score) <= SURE * self.score_sd:
                text += " (within doubt)"
        return text

    @property
    def words(self) -> str:
        return f"against {self.preset.upper()}: {self.figures}"


@dataclass(frozen=True)
class Gain:
    """What MORE time buys a network of `latency_ms`: along a smooth front, with its standard deviation."""

    latency_ms: float
    score: float
    score_sd: float


@dataclass(frozen=True)
class Recommendation:
    """The pick of a run under a budget. `tied` are the trials that are not distinguishably worse, the pick among them,
    from fast to slow."""

    pick: Trial
    tied: tuple[Trial, ...]
    considered: int  # how many points could have been picked
    unconfirmed: tuple[Trial, ...]  # of the front, with a higher estimate than the pick, but not confirmed
    budget_ms: float
    limits: Limits
    delta: Delta | None
    more: tuple[Gain, ...]

    @property
    def faster(self) -> Trial | None:
        """The fastest point that is not distinguishably worse than the pick; None where that is the pick itself."""
        return None if self.tied[0] is self.pick else self.tied[0]

    def headline(self) -> str:
        """The first line of a result."""
        pick = self.pick
        standing = "" if pick.confirmed or pick.trained else " (not confirmed)"
        said = [f"{name(pick)}{standing}: {figures(pick)}", self.reason()]
        if self.delta:
            said.append(self.delta.words)
        if self.faster is not None:
            said.append(f"faster and not distinguishably worse: {name(self.faster)}, {figures(self.faster)}")
        return "; ".join(said)

    def reason(self) -> str:
        """Why this one, in words."""
        within = f"up to {self.budget_ms:g} ms" + (f" with {self.limits.words()}" if self.limits else "")
        if self.considered == 1:
            return f"the only point {within}"
        if len(self.tied) == 1:
            return f"every other point {within} is worse beyond doubt"
        return f"no point {within} is better beyond doubt"

    def notes(self) -> list[str]:
        """What else a reader has to know before taking the pick, a sentence each."""
        said = []
        if self.faster is not None:
            saved = 100 * (1 - (self.faster.latency_ms or 0.0) / (self.pick.latency_ms or 1.0))
            fast = name(self.faster)
            fast = fast[0].upper() + fast[1:]
            said.append(f"{fast} scores {difference(self.faster, self.pick)} beside the pick, not beyond "
                        f"{SURE:g} standard deviations: on average that much is given up for {saved:.0f} % less time.")
        if others := [r for r in self.tied if r is not self.pick and r is not self.faster]:
            said.append(f"{'Another point ties' if len(others) == 1 else f'{len(others)} more points tie'} with it: "
                        f"{_listed(others)}.")
        if (trained := self.pick.trained) is not None:
            said.append(f"Each point was trained at full width on {trained.trained_images:,} images and judged on "
                        f"{trained.held_out}; ± is the chance of those images, and another training of the same "
                        "network would differ by more.")
        elif not self.pick.confirmed:
            said.append("Nothing under the budget is confirmed, so the best of many single estimates is probably too "
                        "good; `search.py resume RUN --confirm 8` trains it with more seeds.")
        elif self.unconfirmed:
            said.append(f"Not confirmed, with a higher estimate: {_listed(self.unconfirmed)}.")
        if words := self.more_time():
            said.append(words)
        return said

    def more_time(self) -> str:
        """What MORE time buys around the pick; empty where the front has too few points."""
        if not self.more:
            return ""
        at = self.pick.latency_ms or 0.0
        here = min(self.more, key=lambda gain: abs(math.log(gain.latency_ms / at)))
        first = self.more[0]
        text = f"{100 * MORE:.0f} % more time buys a score of {here.score:+.3f} ± {here.score_sd:.3f} at {at:.3g} ms"
        if first is not here:
            text += f" ({first.score:+.3f} ± {first.score_sd:.3f} at {first.latency_ms:.3g} ms, the fast end)"
        return text + ", along a smooth curve through the front."

    def document(self) -> dict[str, Any]:
        """The recommendation in `front --json`."""
        return {"trial": self.pick.trial, "headline": self.headline(), "reason": self.reason(), "notes": self.notes(),
                "confirmed": self.pick.confirmed is not None,
                "faster": None if self.faster is None else self.faster.trial,
                "tied": [record.trial for record in self.tied], "considered": self.considered,
                "limits": {key: value for key, value in asdict(self.limits).items() if value is not None},
                "delta": None if self.delta is None else asdict(self.delta),
                "more_time": {"share": MORE, "at": [asdict(gain) for gain in self.more]}}


def recommend(records: Sequence[Trial], budget_ms: float, *, resolution: int, num_classes: int = 1000,
              limits: Limits | None = None, against: str = LARGEST) -> Recommendation | None:
    """The pick of a run under a budget, or None when no point meets it and the limits.

    Args:
        records: the run's trials, confirmed where confirming found something.
        against: the preset that the pick stands beside: its name, LARGEST (that meets the budget, else the nearest)
            or NEAREST.
    """
    limits = limits or Limits()
    under = [r for r in records if eligible(r, budget_ms) and limits.meets(r, resolution, num_classes)]
    if not under:
        return None
    points = [r for r in under if r.trained] or [r for r in under if r.confirmed] or under
    best = max(points, key=lambda r: (_score(r), -(r.latency_ms or math.inf)))
    tied = tuple(sorted((r for r in points if not worse(r, best)), key=lambda r: r.latency_ms or math.inf))
    front = front_of(under, budget_ms)
    rivals = tuple(r for r in front if not r.confirmed and best.confirmed and not best.trained
                   and _score(r) > _score(best))
    beside = reference(records, budget_ms, best, against)
    return Recommendation(best, tied, len(points), rivals, budget_ms, limits,
                          None if beside is None or beside is best else delta(best, beside),
                          tuple(more_time(front_of(points, budget_ms))))


def standing(found: Recommendation | None, record: Trial) -> str:
    """What a run's recommendation says of one of its trials, in words."""
    if found is None:
        return "the run has no point under its budget"
    if record.trial == found.pick.trial:
        return f"the run's recommendation: {found.headline()}"
    if record.trial in {one.trial for one in found.tied}:
        return f"not distinguishable in score from the run's recommendation: {found.headline()}"
    return f"not the run's recommendation, which is {found.headline()}"


def _score(record: Trial) -> float:
    return record.shown.value if record.shown is not None else 0.0


def _sd(*records: Trial) -> float:
    """Of the difference of scores; a doubt that all of a run's estimates share takes no part in it."""
    return math.hypot(*(own_sd(record) for record in records))


def own_sd(record: Trial) -> float:
    """Standard deviation of a score as far as it is a trial's own."""
    shown = record.shown
    if shown is None:
        return 0.0
    return float((record.apart_sd if shown.source == Source.POSTERIOR and record.apart_sd is not None
                  else shown.sd) or 0.0)


def worse(record: Trial, than: Trial) -> bool:
    """Whether a score is lower beyond doubt."""
    return _score(than) - _score(record) > SURE * _sd(record, than)


def reference(records: Iterable[Trial], budget_ms: float, record: Trial, against: str
              ) -> Trial | None:
    """The preset, as the run measured it, that `record` is to stand beside; None when the run has none such."""
    presets = {r.preset: r for r in records if r.preset and r.latency is not None}
    if against in PRESETS:
        return presets.get(against)
    under = [r for r in presets.values() if eligible(r, budget_ms)]
    if against == LARGEST and under:
        return max(under, key=lambda r: r.params_m or 0.0)
    return presets.get(nearest_preset(record.architecture)) if record.config else None


def delta(record: Trial, preset: Trial) -> Delta:
    """How a trial stands to a preset of its run; both were measured."""
    ours, its = record.latency, preset.latency
    assert ours is not None, "it was measured"
    assert its is not None, "it was measured"
    change = ours.latency_ms - its.latency_ms
    known = record.shown is not None and preset.shown is not None and record.shown.unit == preset.shown.unit
    return Delta(preset.preset or "", change, 100 * change / its.latency_ms,
                 ours.ci_low_ms > its.ci_high_ms or ours.ci_high_ms < its.ci_low_ms,
                 _score(record) - _score(preset) if known else None, _sd(record, preset) if known else None,
                 in_words(record.architecture, preset.architecture) if record.config and preset.config else "")


def more_time(front: Sequence[Trial]) -> list[Gain]:
    """What MORE time buys at each point of a front that has a slower one as far off, by a parabola of the score over
    the logarithm of latency, fitted with the scores' standard deviations; a straight line through three points, nothing
    with fewer."""
    if len(front) < 3:
        return []
    log_ms = np.log([r.latency_ms or np.nan for r in front])
    score = np.array([_score(r) for r in front])
    sd = np.array([own_sd(r) for r in front])
    if np.ptp(log_ms) < math.log1p(MORE) or not (sd > 0).all():
        return []
    degree = 2 if len(front) > 3 else 1
    basis = np.vander(log_ms - log_ms.mean(), degree + 1)
    weighted = basis / sd[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    found = covariance @ weighted.T @ (score / sd)
    # Where the curve misses points by more than their own error, its error is that much larger.
    misfit = float(np.sum(((score - basis @ found) / sd) ** 2) / max(1, len(front) - degree - 1))
    step = np.vander(log_ms - log_ms.mean() + math.log1p(MORE), degree + 1) - basis
    gained, spread = step @ found, np.sqrt(np.einsum("ij,jk,ik->i", step, covariance, step) * max(1.0, misfit))
    return [Gain(float(np.exp(at)), float(gain), float(error))
            for at, gain, error in zip(log_ms, gained, spread, strict=True)
            if at + math.log1p(MORE) <= log_ms.max() + 1e-9]


def name(record: Trial) -> str:
    return f"{record.preset.upper()} (trial {record.trial})" if record.preset else f"trial {record.trial}"


def figures(record: Trial) -> str:
    """Latency and score of a measured trial, such as "1.24 ms, 0.528 ± 0.010"."""
    shown = record.shown
    assert shown is not None, "it was scored"
    unit = "top-1 " if record.trained else ""
    return f"{record.latency_ms:.3g} ms, {unit}{shown.value:.3f}" + (f" ± {shown.sd:.3f}" if shown.sd else "")


def difference(one: Trial, other: Trial) -> str:
    return f"{_score(one) - _score(other):+.3f} ± {_sd(one, other):.3f}"


def _listed(records: Sequence[Trial], most: int = 4) -> str:
    said = "; ".join(f"{name(r)}, {figures(r)}" for r in records[:most])
    return said + (f"; {len(records) - most} more" if len(records) > most else "")


def why_faster(config: FastViTConfig, base: FastViTConfig, resolution: int, num_classes: int = 1000) -> str:
    """Where one network computes less or more than another, by stage, in words; empty when it does not."""
    labels = ("the stem", "stage 1", "stage 2", "stage 3", "stage 4", "the head")
    sums: Callable[[FastViTConfig], np.ndarray] = lambda c: np.array([  # noqa: E731
        [sum(b.count * getattr(b, key) for b in cost(c, resolution, num_classes).blocks if b.stage == stage)
         for key in ("gmacs", "activations_m")] for stage in range(len(labels))])
    one, other = sums(config), sums(base)
    said = []
    for column, unit in enumerate(("GMACs", "activations")):
        change = one[:, column] - other[:, column]
        total, before = change.sum(), other[:, column].sum()
        most = int(np.argmax(np.abs(change)))
        if abs(change[most]) > 0.005 * before:
            said.append(f"{100 * total / before:+.0f} % {unit} (most in {labels[most]}: "
                        f"{100 * change[most] / before:+.0f} % of all)")
    return ", ".join(said)
