"""How full-width networks are trained, as numbers. Needs no torch: whoever plans a training reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastvit.config import FastViTConfig

BATCH = 64
FINISH_SHARE = 0.15  # of the steps: a network that saw small images only is worse on large ones


@dataclass(frozen=True)
class FullRecipe:
    """How full-width networks are trained; all of one run by the same one.

    Attributes:
        images: seen in all, the same ones again among them.
        resolution: side in pixels of the images that the network is deployed for, and judged by.
        pixels: side of those that most of the training sees; the last FINISH_SHARE of the steps are at `resolution`.
        seed: of the first weights, and of the order and changes of the images.
        layer_scale: what layer scales begin with; the published 1e-5 is for 300 epochs.
    """

    images: int
    resolution: int
    pixels: int
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    layer_scale: float = 0.1

    @property
    def steps(self) -> int:
        return max(1, self.images // BATCH)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The steps after which a training is looked at and kept: quarters."""
        return tuple(sorted({max(1, round(self.steps * quarter / 4)) for quarter in (1, 2, 3, 4)}))

    @property
    def work(self) -> float:
        """What an image of this training costs, as a share of one at the full resolution."""
        return work_share(self.pixels, self.resolution)

    def pixels_at(self, step: int) -> int:
        return self.pixels if step < (1 - FINISH_SHARE) * self.steps else self.resolution

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FullRecipe:
        return cls(**values)


def work_share(pixels: int, resolution: int) -> float:
    """The mean cost of an image when most of them have `pixels` and the last FINISH_SHARE `resolution`."""
    return (1 - FINISH_SHARE) * (pixels / resolution) ** 2 + FINISH_SHARE


def lean(config: FastViTConfig, recipe: FullRecipe) -> FastViTConfig:
    """`config` as it is trained: plain convolutions, which fuse to the same network, and no drop path."""
    return config.replace(branches=0, layer_scale_init=recipe.layer_scale, drop_path=0.0)
