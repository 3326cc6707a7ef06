"""Tasks of drawn scenes: made from a seed on the CPU as they are asked for, so that no image is seen twice."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nas.data.task import PROXY_PIXELS, Batch, Task, resize
from nas.files import cache_folder, write_atomic

VERSION = 1  # part of the fingerprint, which names the cache: images of another version are another task
CHUNK = 1024
TRAIN, VALIDATION = 1 << 30, 1024  # training images are drawn as they are asked for: no epoch ever ends
_FIELDS, _KEPT_CHUNKS = 48, 4
_RENDERED = 32  # scenes at once: what fits the processor's cache
_HUES = np.arange(3) * (2 * np.pi / 3)

# (rng, labels (N,), noise fields (F, 2S, 2S), 0 for training and 1 for validation) -> N scenes of S pixels a side
Render = Callable[[np.random.Generator, np.ndarray, np.ndarray, int], Batch]


def _noise_fields(rng: np.random.Generator, size: int) -> np.ndarray:
    """1/f noise (_FIELDS, 2 size, 2 size), zero mean and unit variance; backgrounds are crops of these."""
    side = 2 * size
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]).astype(np.float32)
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((_FIELDS, side, side), np.float32))
    noise = np.fft.irfft2(white / frequency, s=(side, side)).astype(np.float32)
    return noise / noise.std((1, 2), keepdims=True)


def backgrounds(rng: np.random.Generator, fields: np.ndarray, count: int, size: int) -> np.ndarray:
    """(count, size, size, 3): for each colour a random crop of a random field."""
    which, corner = rng.integers(_FIELDS, size=(count, 3)), rng.integers(size, size=(count, 3, 2))
    rows = corner[..., 0, None, None] + np.arange(size)[:, None]
    columns = corner[..., 1, None, None] + np.arange(size)
    return fields[which[..., None, None], rows, columns].transpose(0, 2, 3, 1)


def colour(hue: np.ndarray) -> np.ndarray:
    """Hues (N,) in radians as colours (N, 1, 1, 3)."""
    return np.cos(hue[:, None] + _HUES)[:, None, None].astype(np.float32)


def finished(image: np.ndarray, labels: np.ndarray, maps: np.ndarray) -> Batch:
    """Scenes (N, S, S, 3) of about unit contrast and targets (N, C, S, S) in [-1, 1] in the form that is kept."""
    count, channels, size, _ = maps.shape
    half = maps.reshape(count, channels, size // 2, 2, size // 2, 2).mean((3, 5)) if size % 2 == 0 else maps
    return Batch(np.clip(127.5 + 75 * image, 0, 255).astype(np.uint8), labels,
                 np.clip(np.round(127 * half), -127, 127).astype(np.int8))


@dataclass
class SceneSplit:
    """Scenes by number, made in chunks that are kept on disk once they were asked for.

    `render(rng, labels, fields, part)` draws the scenes; `part` is 0 for training and 1 for validation.
    """

    render: Render
    part: int
    length: int
    classes: int
    resolution: int
    seed: int
    folder: Path
    _chunks: OrderedDict[tuple[int, int], Batch] = field(default_factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: np.ndarray, pixels: int) -> Batch:
        """Scenes in the order of their chunks, each with its own label and maps."""
        numbers = np.asarray(indices)
        parts = []
        for chunk in np.unique(numbers // CHUNK):
            held = self._chunk(int(chunk), pixels)
            at = numbers[numbers // CHUNK == chunk] % CHUNK
            parts.append(Batch(held.images[at], held.labels[at], None if held.maps is None else held.maps[at]))
        return _joined(parts)

    def _chunk(self, number: int, pixels: int) -> Batch:
        if (found := self._chunks.get((number, pixels))) is not None:
            return found
        path = self.folder / f"{self.part}-{number:05d}-{pixels}.npz"
        made = _read(path)
        if made is None:
            made = self._make(number, pixels)
            content = io.BytesIO()
            arrays = {"images": made.images, "labels": made.labels} | ({} if made.maps is None else {"maps": made.maps})
            np.savez(content, **arrays)  # type: ignore[arg-type]
            write_atomic(path, content.getvalue())
        self._chunks[number, pixels] = made
        while len(self._chunks) > _KEPT_CHUNKS:
            self._chunks.popitem(last=False)
        return made

    def _make(self, number: int, pixels: int) -> Batch:
        rng = np.random.default_rng([VERSION, self.seed, self.part, number])
        labels = rng.permutation(np.arange(CHUNK) % self.classes)
        fields = _noise_fields(rng, self.resolution)
        parts = [self.render(rng, some, fields, self.part) for some in np.split(labels, CHUNK // _RENDERED)]
        return _joined([Batch(resize(part.images, pixels), part.labels,
                              None if part.maps is None else _shrink(part.maps, pixels // 2)) for part in parts])


def _joined(parts: list[Batch]) -> Batch:
    maps = [part.maps for part in parts if part.maps is not None]
    return Batch(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]),
                 np.concatenate(maps) if maps else None)


def _shrink(maps: np.ndarray, side: int) -> np.ndarray:
    """int8 maps (N, C, H, W) averaged over the cells of a (side, side) grid."""
    if maps.shape[-1] == side:
        return maps
    import torch
    from torch.nn import functional as F

    scaled = F.interpolate(torch.from_numpy(maps).float(), (side, side), mode="area")
    return scaled.round().to(torch.int8).numpy()


def _read(path: Path) -> Batch | None:
    try:
        with np.load(path) as file:
            return Batch(file["images"], file["labels"], file.get("maps"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def scene_task(name: str, render: Render, class_names: tuple[str, ...], map_names: tuple[str, ...],
               scored_maps: tuple[str, ...], resolution: int, seed: int) -> Task:
    """A task of drawn scenes at `resolution` pixels; the same seed makes the same images."""
    identity = repr((name, VERSION, seed, resolution, class_names, map_names))
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:16]
    # By fingerprint: an earlier version of the program may have drawn other images under the same name.
    folder = cache_folder(name, fingerprint)
    train, val = (SceneSplit(render, part, length, len(class_names), resolution, seed, folder)
                  for part, length in enumerate((TRAIN, VALIDATION)))
    return Task(name, resolution, class_names, train, val, map_names=map_names, scored_maps=scored_maps,
                proxy_pixels=min(resolution, PROXY_PIXELS), fingerprint=fingerprint)
