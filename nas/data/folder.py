"""A folder of images as a task: train/ and val/ with one folder a class, or one such folder split by a seed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from nas.data.task import Task
from nas.errors import UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
VALIDATION_SHARE = 0.2


def _read(path: Path, resolution: int) -> np.ndarray:
    """One image as uint8 (resolution, resolution, 3): shorter side scaled, centre cropped, colours as RGB."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image.load()
        return np.asarray(ImageOps.fit(image.convert("RGB"), (resolution, resolution), Image.Resampling.BILINEAR))


def _files(folder: Path) -> dict[str, list[Path]]:
    return {child.name: sorted(p for p in child.rglob("*") if p.suffix.lower() in SUFFIXES)
            for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")}


def _load(files: dict[str, list[Path]], names: tuple[str, ...], resolution: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels, bad = [], [], []
    for label, name in enumerate(names):
        for path in files.get(name, []):
            try:
                images.append(_read(path, resolution))
                labels.append(label)
            except (OSError, ValueError, SyntaxError):
                bad.append(path)
    if bad:
        shown = ", ".join(str(path) for path in bad[:5]) + (", ..." if len(bad) > 5 else "")
        print(f"{len(bad)} unreadable images left out: {shown}", file=sys.stderr)
    if not images:
        raise UsageError("no image could be read; expected JPEG, PNG or WebP files")
    return np.stack(images), np.array(labels)


def folder_task(folder: Path, resolution: int, seed: int) -> Task:
    """The task in `folder`.

    Raises:
        UsageError: no folder, fewer than two classes, or a class with one image.
    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: no such folder; expected train/ and val/, or one folder a class")
    split = (folder / "train").is_dir() and (folder / "val").is_dir()
    files = _files(folder / "train" if split else folder)
    names = tuple(name for name, found in files.items() if found)
    if len(names) < 2:
        raise UsageError(f"--data {folder}: found {len(names)} class folders with JPEG, PNG or WebP images, "
                         "expected at least 2")
    if lonely := [name for name in names if len(files[name]) < 2]:
        raise UsageError(f"--data {folder}: class {lonely[0]!r} has one image, expected at least 2; add images "
                         "or leave the class out")
    if split:
        train, val = files, _files(folder / "val")
        if unknown := sorted(set(val) - set(names)):
            raise UsageError(f"--data {folder}: val/ has the class {unknown[0]!r} that train/ lacks")
    else:
        rng, train, val = np.random.default_rng(seed), {}, {}
        for name in names:
            order = rng.permutation(len(files[name]))
            cut = max(1, round(VALIDATION_SHARE * len(order)))
            val[name] = [files[name][i] for i in sorted(order[:cut])]
            train[name] = [files[name][i] for i in sorted(order[cut:])]
    return Task(folder.resolve().name, resolution, names, *_load(train, names, resolution),
                *_load(val, names, resolution))


def digits_task(resolution: int, seed: int) -> Task:
    """scikit-learn's handwritten digits (1,797 real 8 x 8 images), scaled up: a tiny real task."""
    from PIL import Image
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.stack([np.asarray(Image.fromarray((image * 15.9).astype(np.uint8)).resize((resolution, resolution))
                                  .convert("RGB")) for image in raw.images])
    order = np.random.default_rng(seed).permutation(len(images))
    val, train = order[:360], order[360:]
    return Task("digits", resolution, tuple(str(n) for n in range(10)), images[train], raw.target[train],
                images[val], raw.target[val])
