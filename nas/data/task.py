"""What a task is to those who train on it: two splits of labelled images, at the size they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

# Proxies train at this size: with a stride-2 stem the four grids are 24, 12, 6 and 3 cells wide, so attention
# and 7 x 7 kernels still mean something, at half the price of 64 pixels.
PROXY_PIXELS = 48


@dataclass(frozen=True)
class Batch:
    """uint8 images (B, S, S, 3), labels (B,), and where the task has them dense targets.

    `maps`: int8 (B, C, S / 2, S / 2), 127 for one; its channels are `Task.map_names`.
    """

    images: np.ndarray
    labels: np.ndarray
    maps: np.ndarray | None = None


class Split(Protocol):
    """Images by number; the same number is the same image in every process.

    The first images of a split, however many, hold all classes in about their proportion.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, pixels: int) -> Batch:
        """The images of those numbers, scaled to `pixels`."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """Images (N, S, S, 3) held in memory or mapped from a cache file, at one size."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: np.ndarray, pixels: int) -> Batch:
        return Batch(resize(self.images[indices], pixels), self.labels[indices])


@dataclass(frozen=True)
class Task:
    """A classification task. `resolution` is what the deployed network sees (and latency is measured at);
    proxies train at `proxy_pixels`.

    `fingerprint` changes when the images, labels, classes, seed or resolution do.
    """

    name: str
    resolution: int
    class_names: tuple[str, ...]
    train: Split
    val: Split
    fingerprint: str
    map_names: tuple[str, ...] = ()
    scored_maps: tuple[str, ...] = ()  # whose skills make the score; none of them: the class does
    proxy_pixels: int = PROXY_PIXELS
    note: str = ""  # what the user should know: unreadable images, images left out

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def resize(images: np.ndarray, pixels: int) -> np.ndarray:
    """uint8 (B, H, W, 3) -> (B, pixels, pixels, 3), with antialiasing where it shrinks."""
    if images.shape[1:3] == (pixels, pixels):
        return images
    import torch
    from torch.nn import functional as F

    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    x = F.interpolate(x, (pixels, pixels), mode="bilinear", antialias=True, align_corners=False)
    return x.permute(0, 2, 3, 1).contiguous().numpy()
