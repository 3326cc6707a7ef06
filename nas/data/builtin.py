"""The built-in task: textured shapes on 1/f backgrounds, made from a seed.

Graded on purpose: 4 shapes (global form) x 2 texture frequencies (local detail) x same or different colour
of two distant parts (a relation across the image) = 16 classes.
"""

from __future__ import annotations

import numpy as np

from nas.data.task import Task

SHAPES = ("disc", "square", "triangle", "cross")
TEXTURES = ("coarse", "fine")
RELATIONS = ("same", "different")
TRAIN, VALIDATION = 6144, 1024


def _noise(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """1/f colour noise (count, size, size, 3) around 0 with unit variance."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1 / size
    white = np.fft.rfft2(rng.standard_normal((count, 3, size, size), np.float32))
    field = np.fft.irfft2(white / frequency, s=(size, size)).transpose(0, 2, 3, 1)
    return (field / field.std((1, 2), keepdims=True)).astype(np.float32)


def _shape(kind: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Masks (count, size, size) of shapes of about unit radius in the coordinates x, y."""
    disc = x**2 + y**2 < 0.8
    square = np.maximum(abs(x), abs(y)) < 0.8
    triangle = (y > -0.7) & (y < 0.9 - 1.7 * abs(x))
    cross = ((abs(x) < 0.33) | (abs(y) < 0.33)) & (np.maximum(abs(x), abs(y)) < 0.95)
    return np.choose(kind[:, None, None], (disc, square, triangle, cross))


def make_images(rng: np.random.Generator, labels: np.ndarray, size: int) -> np.ndarray:
    """uint8 images (N, size, size, 3) of the classes `labels`, which count through shape, texture, relation."""
    count = len(labels)
    shape, texture, relation = labels // 4, labels // 2 % 2, labels % 2
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    uniform = lambda low, high: rng.uniform(low, high, count).astype(np.float32)[:, None, None]  # noqa: E731
    image = 0.35 * _noise(rng, count, size)
    # The shape, somewhere left of the middle, turned a little, filled with a grating of one of two frequencies.
    angle, radius = uniform(-0.4, 0.4), uniform(0.35, 0.5)
    dx, dy = axis[None, None] - uniform(-0.4, 0.05), axis[None, :, None] - uniform(-0.35, 0.35)
    x, y = (np.cos(angle) * dx + np.sin(angle) * dy) / radius, (np.cos(angle) * dy - np.sin(angle) * dx) / radius
    mask = _shape(shape, x, y)[..., None]
    turn, phase = uniform(0, np.pi), uniform(0, 2 * np.pi)
    waves = np.where(texture == 1, 12.0, 5.0).astype(np.float32)[:, None, None] * np.pi
    grating = np.sin(waves * (np.cos(turn) * axis[None, None] + np.sin(turn) * axis[None, :, None]) + phase)
    hues = rng.uniform(0, 2 * np.pi, count)
    colour = lambda hue: np.stack([np.cos(hue + k * 2 * np.pi / 3) for k in range(3)], -1)[:, None, None]  # noqa: E731
    image = np.where(mask, 0.6 * grating[..., None] + 0.9 * colour(hues), image)
    # A distant spot at the right edge whose colour is the shape's, or the opposite one.
    spot = np.hypot(axis[None, None] - uniform(0.72, 0.85), axis[None, :, None] - uniform(-0.8, 0.8)) < 0.14
    other = hues + np.where(relation == 1, np.pi, 0) + rng.uniform(-0.5, 0.5, count)
    image = np.where(spot[..., None], 0.9 * colour(other), image)
    return np.clip(127.5 + 70 * image, 0, 255).astype(np.uint8)


def builtin_task(resolution: int, seed: int) -> Task:
    """The task at `resolution` pixels; the same seed makes the same images."""
    rng = np.random.default_rng([seed, resolution])
    names = tuple(f"{s}-{t}-{r}" for s in SHAPES for t in TEXTURES for r in RELATIONS)
    parts = []
    for count in (TRAIN, VALIDATION):
        labels = rng.permutation(np.arange(count) % len(names))
        images = [make_images(rng, chunk, resolution) for chunk in np.array_split(labels, max(1, count // 256))]
        parts += [np.concatenate(images), labels]
    return Task("builtin", resolution, names, *parts)
