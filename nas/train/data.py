"""Augmented images for training, through timm's transforms; what is drawn depends on seed, epoch and image alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nas.data.pictures import Images, Pictures
from nas.errors import Failure
from nas.recipe import DRAWN_EPOCH, Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

def seed_all(*numbers: int) -> None:
    """Seed every generator of the CPU that augmentation and drop path draw from."""
    first, second = np.random.SeedSequence(numbers).generate_state(2)
    random.seed(int(first))
    np.random.seed(int(second))
    # Not torch.manual_seed: before CUDA is initialised it formats a stack at every call, a millisecond an image.
    torch.default_generator.manual_seed(int(first) << 32 | int(second))


def _posterize(image: Image, bits: int, **_: Any) -> Image:
    """At its strongest timm (1.0.31) asks for 0 bits, which Pillow 13 refuses after some hundred images."""
    from PIL import ImageOps

    return image if bits >= 8 else ImageOps.posterize(image, max(1, bits))


class TrainSet(Dataset):
    """Augmented images; asked for by (epoch, index), so that neither workers nor an interruption change any."""

    def __init__(self, pictures: Pictures, recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> None:
        from timm.data import create_transform

        self.pictures, self.seed = pictures, recipe.seed
        self.transform: Any = create_transform(
            recipe.resolution, is_training=True, scale=recipe.scale, ratio=recipe.ratio, hflip=recipe.hflip,
            color_jitter=recipe.color_jitter or None, auto_augment=recipe.aa,  # type: ignore[arg-type]
            interpolation="random", mean=tuple(mean), std=tuple(std), re_prob=recipe.reprob, re_mode=recipe.remode)
        for part in self.transform.transforms:
            for op in getattr(part, "ops", ()):
                if op.name.startswith("Posterize"):
                    op.aug_fn = _posterize

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        seed_all(self.seed, epoch, index)
        for step in range(len(self.pictures)):
            # An unreadable file gives way to the next one: it must not end a training of days.
            image, label = self.pictures.get((index + step) % len(self.pictures))
            if image is not None:
                return self.transform(image), label
            if step == 100:
                break
        raise Failure(f"none of {step} images from number {index} on can be read")


@dataclass(frozen=True)
class Batches:
    """The batches of one process from a step on: keys (epoch, index), one list for each accumulated part.

    Every step's images are the same however they are shared out.
    """

    images: int
    recipe: Recipe
    endless: bool
    rank: int = 0
    processes: int = 1
    accumulate: int = 1
    first: int = 0

    @property
    def epoch_images(self) -> int:
        """Images of one epoch."""
        if self.endless:
            return self.recipe.epoch_images or DRAWN_EPOCH
        return min(self.images, self.recipe.epoch_images or self.images)

    @property
    def steps(self) -> int:
        """Steps of one epoch; the images of a last part of a batch wait for the next epoch."""
        return self.epoch_images // self.recipe.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """Numbers of the images of an epoch."""
        if self.endless:
            return (np.arange(self.epoch_images) + epoch * self.epoch_images) % self.images
        rng = np.random.default_rng([self.recipe.seed, epoch])
        return rng.permutation(self.images)[:self.epoch_images]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self.first // self.steps, self.recipe.epochs):
            order = self.order(epoch)[:self.steps * self.recipe.batch_size]
            parts = order.reshape(self.steps, self.accumulate, self.processes, -1)
            for step in range(self.first - epoch * self.steps if epoch == self.first // self.steps else 0, self.steps):
                for part in parts[step]:
                    yield [(epoch, int(index)) for index in part[self.rank]]

    def __len__(self) -> int:
        return (self.steps * self.recipe.epochs - self.first) * self.accumulate


def train_loader(data: Images, batches: Batches, mean: Sequence[float], std: Sequence[float], workers: int,
                 pin: bool) -> DataLoader:
    """All batches to the end of training in one stream: workers never idle between epochs."""
    return DataLoader(TrainSet(data.train, batches.recipe, mean, std), batch_sampler=batches,  # type: ignore[arg-type]
                      num_workers=workers, pin_memory=pin)
