"""Cluttered digits: real handwriting on 1/f backgrounds; which digit is the largest?

A second task, unlike the built-in one (real strokes, no textures, no dense targets), to judge by long runs what
short runs on the built-in task foretell.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nas.data.builtin import _backgrounds, _colour, scene_task
from nas.data.task import Batch, Task, resize

DIGITS = 4
_HELD_OUT = 360  # digits of scikit-learn's set that only validation scenes are drawn from


@cache
def _strokes() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """For training and for validation: the handwriting (n, 8, 8) of each class, 0 to 1."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    parts = (order[_HELD_OUT:], order[:_HELD_OUT])
    train, val = (tuple((raw.images[part][raw.target[part] == digit] / 16).astype(np.float32) for digit in range(10))
                  for part in parts)
    return train, val


def render(rng: np.random.Generator, labels: np.ndarray, fields: np.ndarray, part: int) -> Batch:
    """Scenes whose largest digit is `labels`: uint8 images (N, S, S, 3)."""
    size = fields.shape[-1] // 2
    strokes = _strokes()[part]
    image = 0.35 * _backgrounds(rng, fields, len(labels), size)
    hue = rng.uniform(0, 2 * np.pi, (len(labels), DIGITS))
    for number in range(DIGITS):
        largest = number == DIGITS - 1
        for index, label in enumerate(labels):
            held = strokes[label if largest else rng.integers(10)]
            side = round(size * (rng.uniform(0.55, 0.75) if largest else rng.uniform(0.2, 0.33)))
            glyph = (255 * held[rng.integers(len(held))]).astype(np.uint8)
            alpha = resize(np.repeat(glyph[None, ..., None], 3, -1), side)[0, ..., :1] / np.float32(255)
            row, column = rng.integers(size - side, size=2)
            under = image[index, row:row + side, column:column + side]
            under += alpha * (1.3 * _colour(hue[index, number:number + 1])[0] - under)
    image += 0.1 * rng.standard_normal(image.shape, np.float32)
    return Batch(np.clip(127.5 + 75 * image, 0, 255).astype(np.uint8), labels)


def clutter_task(resolution: int, seed: int) -> Task:
    """The task at `resolution` pixels; the same seed makes the same images."""
    return scene_task("clutter", render, tuple(str(n) for n in range(10)), (), (), resolution, seed)
