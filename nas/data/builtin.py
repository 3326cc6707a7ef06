"""The built-in task: scenes of textured shapes on 1/f backgrounds, made from a seed on the CPU.

Graded on purpose, so that no network meets a plateau and none solves it at once: what there is in the middle
of an object (texture, a local matter), what outline it has (shape), and how it relates to other objects far
away (same colour as the marker at the edge, same shape as another object). Each of these is a dense target as
well; the class of an image is shape x texture x relation of its largest object.
"""

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

VERSION = 1  # part of the fingerprint and of every cache path: images of another version are another task
SHAPES = ("disc", "square", "triangle", "cross")
TEXTURES = ("coarse", "fine")
RELATIONS = ("same", "different")
MAPS = (*SHAPES, "texture", "colour relation", "shape relation", "orientation cos", "orientation sin")
OBJECTS = 3
CHUNK = 1024
TRAIN, VALIDATION = 1 << 30, 1024  # training images are drawn as they are asked for: no epoch ever ends
_FIELDS, _KEPT_CHUNKS = 48, 4
_RENDERED = 32  # scenes at once: what fits the processor's cache
_HUES = np.arange(3) * (2 * np.pi / 3)


def _noise_fields(rng: np.random.Generator, size: int) -> np.ndarray:
    """1/f noise (_FIELDS, 2 size, 2 size), zero mean and unit variance; backgrounds are crops of these."""
    side = 2 * size
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]).astype(np.float32)
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((_FIELDS, side, side), np.float32))
    noise = np.fft.irfft2(white / frequency, s=(side, side)).astype(np.float32)
    return noise / noise.std((1, 2), keepdims=True)


def _backgrounds(rng: np.random.Generator, fields: np.ndarray, count: int, size: int) -> np.ndarray:
    """(count, size, size, 3): for each colour a random crop of a random field."""
    which, corner = rng.integers(_FIELDS, size=(count, 3)), rng.integers(size, size=(count, 3, 2))
    rows = corner[..., 0, None, None] + np.arange(size)[:, None]
    columns = corner[..., 1, None, None] + np.arange(size)
    return fields[which[..., None, None], rows, columns].transpose(0, 2, 3, 1)


def _outline(kind: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Masks (N, S, S) of shapes of about unit radius in the coordinates x and y."""
    ax, ay = np.abs(x), np.abs(y)
    far = np.maximum(ax, ay)
    return np.choose(kind[:, None, None], (x * x + y * y < 0.8, far < 0.8, (y > -0.7) & (y < 0.9 - 1.7 * ax),
                                           (np.minimum(ax, ay) < 0.33) & (far < 0.95)))


def _colour(hue: np.ndarray) -> np.ndarray:
    return np.cos(hue[:, None] + _HUES)[:, None, None].astype(np.float32)


def render(rng: np.random.Generator, labels: np.ndarray, fields: np.ndarray, _part: int) -> Batch:
    """Scenes of the classes `labels` before the noise `fields` (F, 2S, 2S): uint8 images (N, S, S, 3) with their
    dense targets."""
    size = fields.shape[-1] // 2
    count = len(labels)
    shape, texture, relation = labels // 4, labels // 2 % 2, labels % 2
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    across, down = axis[None, None], axis[None, :, None]

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)

    image = 0.45 * _backgrounds(rng, fields, count, size)
    marker = rng.uniform(0, 2 * np.pi, count)
    maps = np.zeros((count, len(MAPS), size, size), np.float32)
    kinds = rng.integers(len(SHAPES), size=(count, OBJECTS))
    kinds[:, -1] = shape
    # Small objects first: the largest, which gives the class, lies on top of them.
    for number in range(OBJECTS):
        main = number == OBJECTS - 1
        kind = kinds[:, number]
        fine = texture if main else rng.integers(2, size=count)
        differs = relation if main else rng.integers(2, size=count)
        radius = uniform(0.38, 0.55) if main else uniform(0.2, 0.3)
        angle = uniform(-0.4, 0.4)
        dx, dy = across - uniform(-0.65, 0.3), down - uniform(-0.6, 0.6)
        mask = _outline(kind, (np.cos(angle) * dx + np.sin(angle) * dy) / radius,
                        (np.cos(angle) * dy - np.sin(angle) * dx) / radius)
        turn, waves = uniform(0, np.pi), np.where(fine == 1, 12 * np.pi, 6 * np.pi).astype(np.float32)[:, None, None]
        grating = np.sin(waves * (np.cos(turn) * dx + np.sin(turn) * dy) + uniform(0, 2 * np.pi))
        hue = (marker + np.pi * differs + rng.uniform(-0.6, 0.6, count)).astype(np.float32)
        image = np.where(mask[..., None], 0.5 * grating[..., None] + 0.8 * _colour(hue), image)
        twin = (kinds == kind[:, None]).sum(1) > 1
        sign = [np.where(flag, 1.0, -1.0).astype(np.float32)[:, None, None] for flag in (fine == 1, differs == 0, twin)]
        own = [*((kind == k).astype(np.float32)[:, None, None] for k in range(len(SHAPES))), *sign,
               np.cos(2 * turn), np.sin(2 * turn)]
        for channel, value in enumerate(own):
            maps[:, channel] = np.where(mask, value, maps[:, channel])
    spot = np.hypot(across - uniform(0.72, 0.85), down - uniform(-0.8, 0.8)) < 0.15
    image = np.where(spot[..., None], 0.9 * _colour(marker), image)
    image += 0.12 * rng.standard_normal(image.shape, np.float32)
    half = maps.reshape(count, len(MAPS), size // 2, 2, size // 2, 2).mean((3, 5)) if size % 2 == 0 else maps
    return Batch(np.clip(127.5 + 75 * image, 0, 255).astype(np.uint8), labels,
                 np.clip(np.round(127 * half), -127, 127).astype(np.int8))


@dataclass
class SceneSplit:
    """Scenes by number, made in chunks that are kept on disk once they were asked for.

    `render(rng, labels, fields, part)` draws the scenes; `part` is 0 for training and 1 for validation.
    """

    render: Callable[[np.random.Generator, np.ndarray, np.ndarray, int], Batch]
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


def scene_task(name: str, render: Callable[[np.random.Generator, np.ndarray, np.ndarray, int], Batch],
               class_names: tuple[str, ...], map_names: tuple[str, ...], scored_maps: tuple[str, ...],
               resolution: int, seed: int) -> Task:
    """A task of drawn scenes at `resolution` pixels; the same seed makes the same images."""
    folder = cache_folder(name, f"v{VERSION}-s{seed}-{resolution}px")
    identity = repr((name, VERSION, seed, resolution, class_names, map_names))
    train, val = (SceneSplit(render, part, length, len(class_names), resolution, seed, folder)
                  for part, length in enumerate((TRAIN, VALIDATION)))
    return Task(name, resolution, class_names, train, val, map_names=map_names, scored_maps=scored_maps,
                proxy_pixels=min(resolution, PROXY_PIXELS),
                fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:16])


def builtin_task(resolution: int, seed: int) -> Task:
    """Textured shapes: the class is shape x texture x relation of the largest.

    Every map is trained on; the masks of the four shapes are scored. Orientation and texture are learned within
    100 steps by small networks first and vary three times as much between seeds, so that they would drown the
    rest; the relations need longer than any short run (docs/LOG.md).
    """
    names = tuple(f"{s}-{t}-{r}" for s in SHAPES for t in TEXTURES for r in RELATIONS)
    return scene_task("builtin", render, names, MAPS, SHAPES, resolution, seed)
