"""Images as the networks expect them: probes for comparisons, and a folder's for calibration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.data.decode import WORDS, Unreadable, read_array
from nas.data.folder import value_range
from nas.data.layout import LeftOut, find_splits, images_below
from nas.data.order import mixed
from nas.errors import UsageError
from nas.export.variant import MEAN, STD


def normalised(images: np.ndarray, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> np.ndarray:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) as the networks expect it."""
    scaled = (images.astype(np.float32) / 255 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def probe_images(resolution: int) -> dict[str, np.ndarray]:
    """Normalised images (2, 3, R, R) by kind: noise, photographs (scikit-learn's two), and flat with an edge.

    Noise alone would hide what shifts or scales smooth images; photographs alone what only high
    frequencies meet.
    """
    from PIL import Image, ImageOps
    from sklearn.datasets import load_sample_images

    size = (resolution, resolution)
    photographs = np.stack([np.asarray(ImageOps.fit(Image.fromarray(image), size))
                            for image in load_sample_images().images])
    ramp = np.linspace(0, 255, resolution, dtype=np.uint8)
    flat = np.full((2, *size, 3), 40, np.uint8)
    flat[0] = ramp[None, :, None]
    flat[1, :, resolution // 2:] = 220
    noise = np.random.default_rng(0).standard_normal((2, 3, *size), np.float32)
    return {"random": noise, "real": normalised(photographs), "structured": normalised(flat)}


def _folder(source: str) -> Path:
    """The training split of a folder that has one: what is evaluated on later stays unseen. Else the folder."""
    try:
        return find_splits(source, LeftOut()).train or Path(source)
    except UsageError:
        return Path(source)


def calibration_images(source: str, resolution: int, limit: int = 128, seed: int = 0,
                       mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> np.ndarray:
    """Up to `limit` normalised images (N, 3, R, R): a folder's, drawn at random from each of its sub-folders in
    proportion, or a drawn task's.

    Raises:
        UsageError: no folder, or no image in it that can be read.
    """
    from nas.data import DRAWN, load_task

    if source in DRAWN:

        task = load_task(source, resolution=resolution, seed=seed)
        return normalised(task.train.batch(np.arange(min(limit, len(task.train))), resolution).images, mean, std)
    left_out = LeftOut()
    files = images_below(_folder(source), left_out) if Path(source).is_dir() else []
    values, _ = value_range([(path, 0) for path in files])
    images: list[np.ndarray] = []
    parents = {parent: number for number, parent in enumerate(dict.fromkeys(path.parent for path in files))}
    for index in mixed([parents[path.parent] for path in files], seed):
        try:
            images.append(read_array(files[index], resolution, values=values))
        except Unreadable as error:
            print(f"--calibration: {files[index]} left out ({error})", file=sys.stderr)
            continue
        if len(images) == limit:
            break
    if not images:
        raise UsageError(f"--calibration {source}: expected a folder of {WORDS} images, or one of {', '.join(DRAWN)}"
                         + "".join(f"; {line}" for line in left_out.lines(Path(source))[:2]))
    return normalised(np.stack(images), mean, std)
