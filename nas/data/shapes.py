"""Textured shapes on 1/f backgrounds: the task of FastViT-Bench's long runs.

Graded on purpose: what there is in the middle of an object (texture, a local matter), what outline it has (shape), and
how it relates to other objects far away (same colour as the marker at the edge, same shape as another object). Each
of these is a dense target as well; the class of an image is shape x texture x relation of its largest object.
Masks and textures are found within a hundred steps, shapes are told apart after several hundred: a run of 240 steps
ends on the plateau between the two (docs/LOG.md).
"""

from __future__ import annotations

import numpy as np

from nas.data.scenes import backgrounds, colour, finished, scene_task
from nas.data.task import Batch, Task

SHAPES = ("disc", "square", "triangle", "cross")
TEXTURES = ("coarse", "fine")
RELATIONS = ("same", "different")
MAPS = (*SHAPES, "texture", "colour relation", "shape relation", "orientation cos", "orientation sin")
OBJECTS = 3


def _outline(kind: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Masks (N, S, S) of shapes of about unit radius in the coordinates x and y."""
    ax, ay = np.abs(x), np.abs(y)
    far = np.maximum(ax, ay)
    return np.choose(kind[:, None, None], (x * x + y * y < 0.8, far < 0.8, (y > -0.7) & (y < 0.9 - 1.7 * ax),
                                           (np.minimum(ax, ay) < 0.33) & (far < 0.95)))


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

    image = 0.45 * backgrounds(rng, fields, count, size)
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
        image = np.where(mask[..., None], 0.5 * grating[..., None] + 0.8 * colour(hue), image)
        twin = (kinds == kind[:, None]).sum(1) > 1
        sign = [np.where(flag, 1.0, -1.0).astype(np.float32)[:, None, None] for flag in (fine == 1, differs == 0, twin)]
        own = [*((kind == k).astype(np.float32)[:, None, None] for k in range(len(SHAPES))), *sign,
               np.cos(2 * turn), np.sin(2 * turn)]
        for channel, value in enumerate(own):
            maps[:, channel] = np.where(mask, value, maps[:, channel])
    spot = np.hypot(across - uniform(0.72, 0.85), down - uniform(-0.8, 0.8)) < 0.15
    image = np.where(spot[..., None], 0.9 * colour(marker), image)
    image += 0.12 * rng.standard_normal(image.shape, np.float32)
    return finished(image, labels, maps)


def shapes_task(resolution: int, seed: int) -> Task:
    """The class is shape x texture x relation of the largest object.

    Every map is trained on; the masks of the four shapes are scored.
    """
    names = tuple(f"{s}-{t}-{r}" for s in SHAPES for t in TEXTURES for r in RELATIONS)
    return scene_task("shapes", render, names, MAPS, SHAPES, resolution, seed)
