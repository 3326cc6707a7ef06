"""How deep a run on photographs trains what it tries: what its minutes, images, machine and budget allow.

Narrow proxies from a parent order configurations at a tenth of the CPU-seconds of whole networks (docs/LOG.md). So
they come first: CONFIGURATIONS of them, and what is left of the time is for the finalists. Where the time does for as
many whole networks, each is trained at full width for a short while, with a learning rate that goes to zero: for
longer with more time, then at more pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastvit.cost import cost
from fastvit.presets import PRESETS

BATCH = 64
CONFIGURATIONS = 60  # that are tried by proxies, at most
AIM = 50  # whole networks that the time must do for
SHORT, MOST = 300, 1500  # steps: the fewest that order whole networks; as good as the end
MOST_EPOCHS = 30
BASE_PIXELS = 64
SIDES = (64, 96, 128, 160, 192, 224, 256)
TYPICAL = 0.5  # of the budget
BUSY = 0.85  # of the time a worker trains; the rest it measures and proposes


@dataclass(frozen=True)
class SearchPlan:
    """Training of every configuration that is tried: at full width, `steps` of BATCH images at `pixels`.

    `seconds` that a network of T8's size takes, `configurations` how many the time does for beside the presets.
    """

    pixels: int
    steps: int
    configurations: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> SearchPlan | None:
        """The plan as a run keeps it; None for a run whose scores are those of proxies."""
        return None if values is None else cls(**values)


def words(plan: SearchPlan | None, search_minutes: float | None, minutes: float | None, proxy_steps: int) -> str:
    """What is said before a run on photographs starts."""
    proxies = f"proxies of a quarter of the width, 48 px, {proxy_steps} steps, from a parent"
    if search_minutes is None or minutes is None:
        return f"plan: every configuration by {proxies}"
    if plan is None:
        many = f"up to {CONFIGURATIONS} configurations by {proxies}, in at most {search_minutes:.0f} minutes"
        rest = "; then the finalists at full width for what is left"
    else:
        many = (f"about {plan.configurations} configurations at full width, {plan.pixels} px, {plan.steps} steps of "
                f"{BATCH} ({plan.seconds:.0f} s a T8), in {search_minutes:.0f} minutes")
        rest = f"; then {minutes - search_minutes:.0f} minutes for the finalists"
    return f"plan: {many}{rest if minutes > search_minutes else ''}"


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


def make_plan(seconds: float, *, workers: int, resolution: int, images: int, t8_image_s: float,
              load: Load | None = None) -> SearchPlan | None:
    """The plan for a search of so many seconds; None where they only do for proxies.

    Args:
        images: that there are to train on.
        t8_image_s: seconds that T8's training takes for an image of BASE_PIXELS.
        load: None: configurations of T8's size, without presets.
    """
    most = min(MOST, max(SHORT, MOST_EPOCHS * images // BATCH))
    spent, load, smallest = BUSY * seconds * workers, load or Load(), min(BASE_PIXELS, resolution)

    def affordable(side: int) -> float:
        """Steps for each of AIM configurations and the presets."""
        return spent / (BATCH * t8_image_s * (side / BASE_PIXELS) ** 2) / load.of(AIM)

    if affordable(smallest) < SHORT:
        return None
    sides = [side for side in SIDES if smallest < side < resolution] + ([resolution] if resolution > smallest else [])
    enough = min(most, 2 * SHORT)  # before pixels grow
    pixels = next((side for side in reversed(sides) if affordable(side) >= enough), smallest)
    steps = int(min(most, affordable(pixels)))
    left = affordable(pixels) / steps * load.of(AIM) - load.presets
    return SearchPlan(pixels, steps, int(left / load.typical),
                      steps * BATCH * t8_image_s * (pixels / BASE_PIXELS) ** 2)
