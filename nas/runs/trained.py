"""What training a network at full width found, as a run records it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from nas.runs.values import Count, Number, Text

UNIT = "top-1"  # a share of the held-out images, between 0 and 1


@dataclass(frozen=True)
class Trained:
    """A network of a run, trained at full width on the run's images.

    Attributes:
        trial: that trained it, and under whose number its weights are kept.
        hits, images: held-out images that it names right, of so many.
        held_out: which images those are, in words.
        trained_images: that it saw in training, the same ones again among them.
        resolution, pixels: of the images that it was judged by, and of those that most of its training saw.
        started_from: its first weights, in words.
        cpu_s: CPU-seconds of its training.
        recipe: nas.proxy.full_recipe.FullRecipe as a dictionary.
    """

    trial: Count
    hits: Count
    images: Annotated[Count, Field(gt=0)]
    held_out: Text
    trained_images: Count
    resolution: Count
    pixels: Count
    started_from: Text
    cpu_s: Number
    recipe: dict[Text, Any]

    def __post_init__(self) -> None:
        if self.hits > self.images:
            raise ValueError(f"hits = {self.hits}: more than the {self.images} held-out images")

    @property
    def top1(self) -> float:
        return self.hits / self.images

    @property
    def sd(self) -> float:
        """Standard error of `top1` from the held-out images alone; another seed's training differs by more."""
        return float((self.top1 * (1 - self.top1) / self.images) ** 0.5)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's interval of top-1: what other held-out images might say of these weights."""
        from scipy.stats import binomtest

        found = binomtest(self.hits, self.images).proportion_ci(level, method="wilson")
        return float(found.low), float(found.high)

    def beside(self, other: Trained) -> tuple[float, float]:
        """By how much this top-1 is above another one's, and the standard deviation of that; as if the two networks'
        mistakes had nothing to do with each other, which makes it too wide where they do."""
        return self.top1 - other.top1, (self.sd**2 + other.sd**2) ** 0.5

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
