"""The built-in task: scikit-learn's handwritten digits in colour on 1/f backgrounds, several in each scene.

The class of a scene is its largest digit. Where each kind of digit lies is a dense target as well: it teaches from the
first step on, where a classifier alone stays on a plateau that short runs leave by chance, and it is what is scored.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nas.data.scenes import backgrounds, colour, finished, scene_task
from nas.data.task import Batch, Task

KINDS = tuple(str(kind) for kind in range(10))
DIGITS = 4
_HELD_OUT = 360  # digits of scikit-learn's set that only validation scenes are drawn from


@cache
def _strokes() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """For training and for validation: handwriting (n, 8, 8) of 0 to 1, and the first number of each kind in it."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    parts = []
    for part in (order[_HELD_OUT:], order[:_HELD_OUT]):
        kinds = raw.target[part]
        by_kind = np.argsort(kinds, kind="stable")
        parts.append((raw.images[part][by_kind].astype(np.float32) / 16, np.searchsorted(kinds[by_kind], range(11))))
    return tuple(parts)


def _placed(glyphs: np.ndarray, row: np.ndarray, column: np.ndarray, side: np.ndarray, size: int) -> np.ndarray:
    """Glyphs (N, 8, 8), each scaled to `side` with its corner at (row, column), as opacities (N, S, S): bilinear."""
    padded = np.pad(glyphs, ((0, 0), (1, 2), (1, 2)))
    centres = np.arange(size) + 0.5

    def weights(corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.clip((centres - corner[:, None]) / side[:, None] * 8 + 0.5, 0, 9)
        return at.astype(int), (at % 1).astype(np.float32)

    (y, dy), (x, dx) = weights(row), weights(column)
    number = np.arange(len(glyphs))[:, None]
    rows = padded[number, y] * (1 - dy[..., None]) + padded[number, y + 1] * dy[..., None]
    rows = rows.transpose(0, 2, 1)
    return (rows[number, x] * (1 - dx[..., None]) + rows[number, x + 1] * dx[..., None]).transpose(0, 2, 1)


def render(rng: np.random.Generator, labels: np.ndarray, fields: np.ndarray, part: int) -> Batch:
    """Scenes whose largest digit is `labels` before the noise `fields` (F, 2S, 2S): uint8 images (N, S, S, 3) with
    their dense targets (N, 10, S / 2, S / 2)."""
    size, count = fields.shape[-1] // 2, len(labels)
    strokes, first = _strokes()[part]
    image = 0.35 * backgrounds(rng, fields, count, size)
    maps = np.zeros((count, len(KINDS), size, size), np.float32)
    for number in range(DIGITS):
        largest = number == DIGITS - 1  # drawn last, over the others
        kind = labels if largest else rng.integers(len(KINDS), size=count)
        side = size * (rng.uniform(0.55, 0.75, count) if largest else rng.uniform(0.25, 0.4, count))
        row, column = rng.uniform(0, 1, (2, count)) * (size - side)
        opacity = _placed(strokes[rng.integers(first[kind], first[kind + 1])], row, column, side, size)
        image += opacity[..., None] * (1.3 * colour(rng.uniform(0, 2 * np.pi, count)) - image)
        maps *= 1 - opacity[:, None]
        maps[np.arange(count), kind] += opacity
    image += 0.1 * rng.standard_normal(image.shape, np.float32)
    return finished(image, labels, maps)


def builtin_task(resolution: int, seed: int) -> Task:
    """Handwritten digits in scenes; the same seed makes the same images."""
    return scene_task("builtin", render, KINDS, KINDS, KINDS, resolution, seed)
