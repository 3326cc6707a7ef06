"""A folder of images as a task: train/ and val/ with one folder a class, or one such folder split by a seed.

Images are decoded once, at the size that proxies train at, and kept in the cache; later runs map that file.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from nas.data.order import mixed
from nas.data.task import PROXY_PIXELS, ArraySplit, Task
from nas.errors import UsageError
from nas.files import cache_folder, write_json

VERSION = 2  # of the images, their order and so of the fingerprint; 1 listed them class after class
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
VALIDATION_SHARE = 0.2
_NAMED = 5  # unreadable images named in the note; the cache's meta.json has all

Files = list[tuple[Path, int]]  # with their labels


def _decode(path: Path, pixels: int) -> np.ndarray | None:
    """One image as uint8 (pixels, pixels, 3): shorter side scaled, centre cropped, grey, palette, CMYK and
    transparent ones as RGB; None when it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * pixels, 2 * pixels))  # a JPEG is decoded small: several times faster
            upright = ImageOps.exif_transpose(image)
            return np.asarray(ImageOps.fit(upright.convert("RGB"), (pixels, pixels), Image.Resampling.BILINEAR))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _classes(folder: Path) -> dict[str, list[Path]]:
    return {child.name: sorted(p for p in child.rglob("*") if p.suffix.lower() in SUFFIXES)
            for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")}


def labelled_files(folder: Path, seed: int) -> tuple[tuple[str, ...], Files, Files]:
    """Class names, training files, validation files; both lists in mixed order (nas/data/order.py).

    Raises:
        UsageError: fewer than two classes, or a class with one image.
    """
    ready = (folder / "train").is_dir() and (folder / "val").is_dir()
    train = _classes(folder / "train" if ready else folder)
    names = tuple(name for name, found in train.items() if found)
    if len(names) < 2:
        raise UsageError(f"--data {folder}: found {len(names)} class folders with JPEG, PNG or WebP images, "
                         "expected at least 2")
    if lonely := [name for name in names if len(train[name]) < 2]:
        raise UsageError(f"--data {folder}: class {lonely[0]!r} has one image, expected at least 2; add images "
                         "or leave the class out")
    if ready:
        val = _classes(folder / "val")
        if unknown := sorted(name for name, found in val.items() if found and name not in names):
            raise UsageError(f"--data {folder}: val/ has the class {unknown[0]!r} that train/ lacks")
        if not any(val.values()):
            raise UsageError(f"--data {folder}: val/ has no JPEG, PNG or WebP images")
    else:
        rng, val = np.random.default_rng(seed), {}
        for name in names:
            order = rng.permutation(len(train[name]))
            cut = max(1, round(VALIDATION_SHARE * len(order)))
            val[name] = [train[name][i] for i in sorted(order[:cut])]
            train[name] = [train[name][i] for i in sorted(order[cut:])]

    def labelled(found: dict[str, list[Path]]) -> Files:
        files = [(path, label) for label, name in enumerate(names) for path in found.get(name, [])]
        return [files[number] for number in mixed([label for _, label in files])]

    return names, labelled(train), labelled(val)


def _store(files: Files, pixels: int, folder: Path, part: str, digest: Any) -> tuple[int, list[str]]:
    """Decode into `folder`; how many could be read, and which could not."""
    images = np.lib.format.open_memmap(folder / f"{part}-images.npy", "w+", np.uint8, (len(files), pixels, pixels, 3))
    labels: list[int] = []
    bad: list[str] = []
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        for (path, label), found in zip(files, pool.map(lambda file: _decode(file[0], pixels), files), strict=True):
            if found is None:
                bad.append(str(path))
                continue
            images[len(labels)] = found
            digest.update(found.data)
            labels.append(label)
    digest.update(repr(labels).encode())
    images.flush()
    np.save(folder / f"{part}-labels.npy", np.array(labels, np.int64))
    return len(labels), bad


def folder_task(folder: Path, resolution: int, seed: int) -> Task:
    """The task in `folder`.

    Raises:
        UsageError: no folder, fewer than two classes, a class with one image, or nothing that can be read.
    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: no such folder; expected train/ and val/, or one folder a class")
    folder = folder.resolve()
    names, train, val = labelled_files(folder, seed)
    pixels = min(resolution, PROXY_PIXELS)
    stats = [(str(path), label, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path, label in train + val]
    key = hashlib.sha256(repr((VERSION, pixels, len(train), stats)).encode()).hexdigest()[:24]
    cache = cache_folder("folders", key)
    with FileLock(cache / "lock"):
        if not (cache / "meta.json").exists():
            digest = hashlib.sha256(repr((VERSION, pixels, names)).encode())
            counts = {part: _store(files, pixels, cache, part, digest)
                      for part, files in (("train", train), ("val", val))}
            write_json(cache / "meta.json", {
                "folder": str(folder), "content": digest.hexdigest()[:16],
                "counts": {part: count for part, (count, _) in counts.items()},
                "unreadable": [path for _, bad in counts.values() for path in bad]})
    meta = json.loads((cache / "meta.json").read_text(encoding="utf-8"))
    for part, count in meta["counts"].items():
        if not count:
            raise UsageError(f"--data {folder}: no image for {part} could be read; expected JPEG, PNG or WebP files")
    bad = meta["unreadable"]
    note = ""
    if bad:
        shown = ", ".join(bad[:_NAMED]) + (f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else "")
        note = f"{len(bad)} unreadable image{'s' * (len(bad) > 1)} left out: {shown}"
    train_split, val_split = (ArraySplit(np.load(cache / f"{part}-images.npy", mmap_mode="r")[:meta["counts"][part]],
                                         np.load(cache / f"{part}-labels.npy")) for part in ("train", "val"))
    return Task(folder.name, resolution, names, train_split, val_split,
                fingerprint=f"{meta['content']}-{resolution}px", proxy_pixels=pixels, note=note)
