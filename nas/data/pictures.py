"""Labelled images for training and evaluation, and the loader that both evaluate with (timm's transforms)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nas.data import DRAWN, Split, load_task
from nas.data.decode import TYPE_RANGE, Unreadable, ValueRange, read_rgb
from nas.data.folder import open_folder
from nas.data.kept import Kept, keep_decoded, shrunk
from nas.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

UNREADABLE = -1  # the label of an image that cannot be read, where it must not be replaced by another


_named: set[Path] = set()  # unreadable images that were named already


def _name(path: Path, error: Unreadable) -> None:
    """Say once for each process which image cannot be read."""
    if path not in _named:
        _named.add(path)
        print(f"{path} is left out: {error}", file=sys.stderr)


class Pictures:
    """RGB images with labels, by number: files in mixed order (nas/data/order.py), or a task's split at `pixels`."""

    def __init__(self, files: Sequence[tuple[Path, int]] | None = None, split: Split | None = None,
                 pixels: int = 0, values: ValueRange = TYPE_RANGE, *, least: int | None = None,
                 kept: Kept | None = None, ready: bool = False) -> None:
        self.files, self.split, self.pixels, self.values = files, split, pixels, values
        self.least = least  # sides that a JPEG needs at least
        self.kept, self.ready = kept, ready  # decoded before; `ready`: scaled and cropped for evaluation as well

    def __len__(self) -> int:
        if self.kept is not None:
            return len(self.kept)
        return len(self.split) if self.split is not None else len(self.files or ())

    def get(self, index: int) -> tuple[Image | None, int]:
        """Image and label; None for a file that cannot be read."""
        from PIL import Image

        if self.kept is not None:
            return Image.fromarray(self.kept.image(index)), int(self.kept.labels[index])
        if self.split is not None:
            batch = self.split.batch(np.array([index]), self.pixels)
            return Image.fromarray(batch.images[0]), int(batch.labels[0])
        assert self.files is not None
        path, label = self.files[index]
        try:
            return read_rgb(path, least=self.least, values=self.values), label
        except Unreadable as error:
            _name(path, error)
            return None, label


@dataclass(frozen=True)
class Images:
    """A labelled data set for training: its two parts, and the folder's or task's name."""

    name: str
    class_names: tuple[str, ...]
    train: Pictures
    val: Pictures
    fingerprint: str
    lines: tuple[str, ...] = ()  # what the user should know of the images

    @property
    def task(self) -> str:
        """What the recipe goes by: the task's name, or "folder"."""
        return self.name if self.train.split is not None else "folder"


def open_images(spec: str, resolution: int, seed: int = 0) -> Images:
    """"builtin", "shapes", "digits", or a folder of any layout that nas/data/layout.py reads.

    Raises:
        UsageError: no folder, or no classes in it.
    """
    if spec in DRAWN:
        task = load_task(spec, resolution=resolution, seed=seed)
        return Images(spec, task.class_names, Pictures(split=task.train, pixels=resolution),
                      Pictures(split=task.val, pixels=resolution), task.fingerprint)
    import hashlib

    found = open_folder(spec, seed)
    listed = repr([(os.path.relpath(path, found.splits.root), label) for path, label in (*found.train, *found.val)])
    train, val = (Pictures(files, values=found.values) for files in (found.train, found.val))
    return Images(found.name, found.class_names, train, val, hashlib.sha256(listed.encode()).hexdigest()[:16],
                  found.lines)


def decoded(data: Images, recipe: Recipe) -> tuple[Images, tuple[str, ...]]:
    """The images of a folder decoded once for every epoch to come, and which cannot be read; a task's as they are.

    Training images are kept with their shorter side at twice the resolution at most, validation images as they enter
    the network. What would take too much of the disk is decoded again and again, JPEGs at a fraction of their size.
    """
    if data.train.files is None or data.val.files is None:
        return data, ()
    least, values = 2 * recipe.resolution, data.train.values
    train = keep_decoded(list(data.train.files), values, partial(shrunk, least=least), f"shorter side {least}",
                         least=least)
    steps = _evaluated(recipe.resolution, recipe.crop_pct, recipe.interpolation).transforms[:-2]
    val = keep_decoded(list(data.val.files), values, lambda image: reduce(lambda x, step: step(x), steps, image),
                       f"{recipe.resolution} px, crop {recipe.crop_pct}, {recipe.interpolation}")
    bad = [*(train.unreadable if train else ()), *(val.unreadable if val else ())]
    return replace(
        data, train=Pictures(data.train.files, values=values, least=least, kept=train),
        val=Pictures(data.val.files, values=values, kept=val, ready=val is not None)), tuple(bad)


def _evaluated(resolution: int, crop_pct: float, interpolation: str, mean: Sequence[float] = (0.5,) * 3,
               std: Sequence[float] = (0.5,) * 3) -> Any:
    """timm's transform for evaluation: scale, crop, to a tensor, normalise."""
    from timm.data import create_transform

    return create_transform(resolution, crop_pct=crop_pct, interpolation=interpolation, mean=tuple(mean),
                            std=tuple(std))


class EvalSet(Dataset):
    """Images as a deployed network sees them; an unreadable one has the label UNREADABLE."""

    def __init__(self, pictures: Pictures, resolution: int, mean: Sequence[float], std: Sequence[float],
                 crop_pct: float, interpolation: str, change: Any = None) -> None:
        self.pictures, self.resolution, self.change = pictures, resolution, change
        self.before = _evaluated(resolution, crop_pct, interpolation, mean, std)
        if pictures.ready:
            self.before.transforms = self.before.transforms[-2:]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.pictures.get(index)
        if image is None:
            return torch.zeros(3, self.resolution, self.resolution), UNREADABLE
        if self.change is not None:
            image = self.change(image, index)
        return self.before(image), label


def eval_loader(pictures: Pictures, recipe: Recipe, mean: Sequence[float], std: Sequence[float], *, batch: int,
                workers: int = 0, rank: int = 0, processes: int = 1, change: Any = None) -> DataLoader:
    """Every `processes`-th image from `rank` on, in order."""
    held = EvalSet(pictures, recipe.resolution, mean, std, recipe.crop_pct, recipe.interpolation, change)
    return DataLoader(held, batch_size=batch, sampler=range(rank, len(held), processes), num_workers=workers)
