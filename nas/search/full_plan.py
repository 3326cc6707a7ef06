"""Which networks a run trains at full width, on how many images of what size: as many as its time trains in earnest.

The presets that meet the budget are trained beside the finalists, the largest one always: taking it is the rule that
needs no search, so no pick may be worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxy.full_recipe import BATCH, work_share

if TYPE_CHECKING:
    from nas.runs.trial import Trial

FINALISTS = 8  # networks that are trained at full width, at most
FEWEST = 3  # the largest preset, and two to choose from: more than that only while all see ENOUGH images
ENOUGH = 60_000  # images that each network should see; smaller ones come before fewer of them
LEAST = 50 * BATCH  # with fewer steps than that a training says nothing
MOST_EPOCHS = 300
SIDES = (64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448)


@dataclass(frozen=True)
class FullPlan:
    """What is trained: trials in the order of training, images that each sees, the side in pixels of most of them,
    and the seconds that this takes."""

    trials: tuple[int, ...]
    images: int
    pixels: int
    seconds: float


def candidates(found: Sequence[Trial], budgets: Sequence[float], score: Mapping[int, float],
               eligible: Mapping[float, set[int]]) -> list[int]:
    """Trials that are worth training at full width, the most wanted first, each network once.

    Args:
        found: trials with a latency and an estimate, presets among them.
        score: the estimate by trial.
        eligible: trials that meet each of `budgets` beyond doubt.

    For each budget the largest preset comes first, then the best by the estimate; after them, by turns, the presets
    from large to small, and the points of the front of estimates by how far they stand out from the others.
    """
    by_trial = {r.trial: r for r in found}
    wanted: list[int] = []
    for budget in sorted(budgets, reverse=True):
        under = [r for r in found if r.trial in eligible[budget]]
        presets = sorted((r for r in under if r.preset), key=lambda r: -(r.gmacs or 0.0))
        own = sorted((r for r in under if not r.preset), key=lambda r: -score[r.trial])
        wanted += [r.trial for r in (*presets[:1], *own[:1])]
    largest = max(budgets)
    under = [r for r in found if r.trial in eligible[largest]]
    presets = sorted((r for r in under if r.preset), key=lambda r: -(r.gmacs or 0.0))
    spread = _spread([r for r in under if not r.preset], score)
    for place in range(max(len(presets), len(spread))):
        wanted += [r.trial for r in (*spread[place:place + 1], *presets[place:place + 1])]
    once: dict[str | None, int] = {}
    for trial in wanted:
        once.setdefault(by_trial[trial].config_key, trial)
    return list(once.values())


def _spread(found: Sequence[Trial], score: Mapping[int, float]) -> list[Trial]:
    """Points of the front of (latency, estimate), from those without which it would lose most; then the others by
    their estimate."""
    from nas.search.pareto import pareto

    ms, value = [r.latency_ms or 0.0 for r in found], [score[r.trial] for r in found]
    front = [found[i] for i in pareto(ms, value)]

    def loss(place: int) -> float:
        """Of area under the front's steps, latencies by their logarithm."""
        if place == len(front) - 1:
            return math.inf  # the best by the estimate
        here, after = front[place], front[place + 1]
        below = score[front[place - 1].trial] if place else min(value)
        return (score[here.trial] - below) * math.log((after.latency_ms or 1.0) / (here.latency_ms or 1.0))

    ordered = sorted(range(len(front)), key=loss, reverse=True)
    rest = sorted((r for r in found if r not in front), key=lambda r: -score[r.trial])
    return [*(front[i] for i in ordered), *rest]


def makespan(seconds: Sequence[float], workers: int) -> float:
    """How long so many workers take, longest first."""
    busy = [0.0] * max(1, workers)
    for one in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += one
    return max(busy)


def plan(wanted: Sequence[int], cost_s: Mapping[int, float], *, seconds: float, workers: int, resolution: int,
         epoch_images: int, most: int = FINALISTS, images: int | None = None, pixels: int | None = None
         ) -> FullPlan | None:
    """The plan for a time; None when that is too little for any.

    Args:
        wanted: trials, the most wanted first.
        cost_s: seconds that an image of the full resolution takes each of them.
        images, pixels: where they are fixed already, as those of the run's earlier trainings are.
    """
    fewest = min(FEWEST, len(wanted), most)
    if not fewest:
        return None

    def affordable(count: int, side: int) -> int:
        spent = makespan([cost_s[trial] for trial in wanted[:count]], workers) * work_share(side, resolution)
        return int(min(seconds / spent, images or MOST_EPOCHS * epoch_images))

    sides = [side for side in SIDES if side < resolution] + [resolution]
    if pixels is None:
        pixels = next((side for side in reversed(sides) if affordable(fewest, side) >= ENOUGH), sides[0])
    if images is None:
        count = next((n for n in range(min(most, len(wanted)), fewest, -1) if affordable(n, pixels) >= ENOUGH), fewest)
        images = affordable(count, pixels) // BATCH * BATCH
        if images < LEAST:
            return None
    else:
        count = next((n for n in range(min(most, len(wanted)), 0, -1) if affordable(n, pixels) >= images), 0)
        if not count:
            return None
    chosen = sorted(wanted[:count], key=lambda trial: -cost_s[trial])
    expected = makespan([cost_s[trial] for trial in chosen], workers) * images * work_share(pixels, resolution)
    return FullPlan(tuple(chosen), images, pixels, expected)
