"""Images for training and evaluation, through timm's transforms; what is drawn depends on seed, epoch, image alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nas.data import DRAWN, Split, load_task
from nas.errors import Failure, UsageError
from nas.train.recipe import DRAWN_EPOCH, Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

ENDLESS = 1 << 20  # a split of more images draws them as they are asked for; one epoch is then a part of it
UNREADABLE = -1  # the label of an image that cannot be read, where it must not be replaced by another


class Pictures:
    """RGB images with labels, by number: files in mixed order (nas/data/order.py), or a task's split at `pixels`."""

    def __init__(self, files: Sequence[tuple[Path, int]] | None = None, split: Split | None = None,
                 pixels: int = 0) -> None:
        self.files, self.split, self.pixels = files, split, pixels

    def __len__(self) -> int:
        return len(self.split) if self.split is not None else len(self.files or ())

    def get(self, index: int) -> tuple[Image | None, int]:
        """Image and label; None for a file that cannot be read."""
        from PIL import Image, ImageOps

        if self.split is not None:
            batch = self.split.batch(np.array([index]), self.pixels)
            return Image.fromarray(batch.images[0]), int(batch.labels[0])
        assert self.files is not None
        path, label = self.files[index]
        try:
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).convert("RGB"), label
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None, label


@dataclass(frozen=True)
class Images:
    """A labelled data set for training: its two parts, and the folder's or task's name."""

    name: str
    class_names: tuple[str, ...]
    train: Pictures
    val: Pictures
    fingerprint: str

    @property
    def task(self) -> str:
        """What the recipe goes by: the task's name, or "folder"."""
        return self.name if self.train.split is not None else "folder"


def open_images(spec: str, resolution: int, seed: int = 0) -> Images:
    """"builtin", "shapes", "digits", or a folder with train/ and val/ or one folder a class (then split by the seed).

    Raises:
        UsageError: no folder, or no classes in it.
    """
    if spec in DRAWN:
        task = load_task(spec, resolution=resolution, seed=seed)
        return Images(spec, task.class_names, Pictures(split=task.train, pixels=resolution),
                      Pictures(split=task.val, pixels=resolution), task.fingerprint)
    import hashlib

    from nas.data.folder import labelled_files

    folder = Path(spec).expanduser()
    if not folder.is_dir():
        raise UsageError(f"--data {spec}: no such folder; expected train/ and val/, or one folder a class; or one of "
                         f"{', '.join(DRAWN)}")
    names, train, val = labelled_files(folder.resolve(), seed)
    listed = repr([(str(p.relative_to(folder.resolve())), label) for p, label in (*train, *val)])
    return Images(folder.resolve().name, names, Pictures(train), Pictures(val),
                  hashlib.sha256(listed.encode()).hexdigest()[:16])


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


class EvalSet(Dataset):
    """Images as a deployed network sees them; an unreadable one has the label UNREADABLE."""

    def __init__(self, pictures: Pictures, resolution: int, mean: Sequence[float], std: Sequence[float],
                 crop_pct: float, interpolation: str, change: Any = None) -> None:
        from timm.data import create_transform

        self.pictures, self.resolution, self.change = pictures, resolution, change
        self.before = create_transform(resolution, crop_pct=crop_pct, interpolation=interpolation, mean=tuple(mean),
                                       std=tuple(std))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.pictures.get(index)
        if image is None:
            return torch.zeros(3, self.resolution, self.resolution), UNREADABLE
        if self.change is not None:
            image = self.change(image, index)
        return self.before(image), label  # type: ignore[operator, return-value]


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


def eval_loader(pictures: Pictures, recipe: Recipe, mean: Sequence[float], std: Sequence[float], *, batch: int,
                workers: int = 0, rank: int = 0, processes: int = 1, change: Any = None) -> DataLoader:
    """Every `processes`-th image from `rank` on, in order."""
    held = EvalSet(pictures, recipe.resolution, mean, std, recipe.crop_pct, recipe.interpolation, change)
    return DataLoader(held, batch_size=batch, sampler=range(rank, len(held), processes), num_workers=workers)
