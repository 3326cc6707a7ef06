"""How deep a run on photographs trains what it tries: what its minutes, images and machine allow.

Where the time does, each configuration that is tried is trained at full width for a short while, with a learning rate
that goes to zero: what it reaches is evidence of a long training (docs/LOG.md). First come some 40 to 60
configurations, then longer trainings of them, then more pixels. Where it does not do for FEW of them, narrow proxies
from a parent are trained instead, and the estimate believes them as far as they have agreed with whole networks
elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.errors import UsageError

BATCH = 64
AIM = 50  # configurations that are tried, where the time does for SHORT steps each
SHORT, LEAST, MOST = 300, 100, 1500  # steps: enough to order most pairs; to say anything; as good as the end
FEW = 12  # configurations that are tried at least
MOST_EPOCHS = 30
BASE_PIXELS = 64
SIDES = (64, 96, 128, 160, 192, 224, 256)
TYPICAL = 0.5  # of the budget
BUSY = 0.85  # of the time a worker trains; the rest it measures and proposes
TRIED_WITHOUT_A_TIME = SHORT


@dataclass(frozen=True)
class SearchPlan:
    """Training of every configuration that is tried: at full width, `steps` of BATCH images at `pixels`.

    `seconds` that a network of T8's size takes, `configurations` how many the time does for beside the presets (0: no
    limit of time was given).
    """

    pixels: int
    steps: int
    configurations: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> SearchPlan | None:
        """The plan as a run keeps it; None for a run whose scores are those of proxies."""
        return None if values is None else cls(**values)


def words(plan: SearchPlan | None, search_minutes: float | None, minutes: float | None, proxy_steps: int) -> str:
    """What is said before a run on photographs starts."""
    if plan is None:
        what = f"proxies of a quarter of the width, 48 px, {proxy_steps} steps, from a parent"
    else:
        what = f"full width, {plan.pixels} px, {plan.steps} steps of {BATCH}"
    if search_minutes is None or minutes is None:
        return f"plan: every configuration at {what}"
    many = f"about {plan.configurations} configurations, {what} ({plan.seconds:.0f} s a T8)" if plan else what
    rest = f"; then {minutes - search_minutes:.0f} minutes for the finalists" if minutes > search_minutes else ""
    return f"plan: {search_minutes:.0f} minutes for {many}{rest}"


@dataclass(frozen=True)
class Load:
    """What a search trains, in networks of T8's size: a typical configuration under the budget, and all the presets
    under it together."""

    typical: float = 1.0
    presets: float = 0.0

    @classmethod
    def under(cls, budget_ms: float, t8_ms: float) -> Load:
        """Latency taken for work, as it roughly is; a front reaches from a fifth of its budget up."""
        t8 = cost(PRESETS["t8"], BASE_PIXELS).gmacs
        sizes = [cost(config, BASE_PIXELS).gmacs / t8 for config in PRESETS.values()]
        return cls(max(0.2, TYPICAL * budget_ms / t8_ms), sum(size for size in sizes if size <= budget_ms / t8_ms))

    def of(self, configurations: int) -> float:
        return configurations * self.typical + self.presets


def make_plan(seconds: float | None, *, workers: int, resolution: int, images: int, t8_image_s: float,
              load: Load | None = None, steps: int | None = None) -> SearchPlan | None:
    """The plan for a search of so many seconds; None where they only do for proxies.

    Args:
        seconds: None where only a number of trials limits the search.
        images: that there are to train on.
        t8_image_s: seconds that T8's training takes for an image of BASE_PIXELS.
        load: None: configurations of T8's size, without presets.
        steps: where the user names them.

    Raises:
        UsageError: steps below 1.
    """
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: expected at least 1")
    most = max(LEAST, min(MOST, MOST_EPOCHS * images // BATCH))
    smallest = min(BASE_PIXELS, resolution)

    def step_s(side: int) -> float:
        return BATCH * t8_image_s * (side / BASE_PIXELS) ** 2

    if seconds is None:
        return SearchPlan(smallest, steps or min(TRIED_WITHOUT_A_TIME, most))
    spent, load = BUSY * seconds * workers, load or Load()
    sides = [side for side in SIDES if smallest < side < resolution] + ([resolution] if resolution > smallest else [])
    enough = min(most, 2 * SHORT)  # before pixels grow
    pixels = next((side for side in reversed(sides) if spent / step_s(side) / load.of(AIM) >= enough),
                  smallest)
    if steps is None:
        affordable = spent / step_s(pixels)  # steps in all
        if affordable < load.of(FEW) * LEAST:
            return None
        many, few = affordable / load.of(AIM), affordable / load.of(FEW)
        steps = int(min(most, many)) if many >= SHORT else int(min(SHORT, most, few))
    left = spent / step_s(pixels) / steps - load.presets
    return SearchPlan(pixels, steps, max(1, int(left / load.typical)), steps * step_s(pixels))
