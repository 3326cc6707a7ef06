"""A data set's images decoded once, each in its own shape, in one file of the cache that every process maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from nas.data.decode import Unreadable, ValueRange, read_rgb
from nas.data.folder import KEPT_BYTES, Files, decode_all, listing
from nas.files import cache_folder, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
_SAMPLED = 48  # images whose sizes tell how large the file will be


@dataclass
class Kept:
    """Images by number as uint8 (H, W, 3), with their labels; those that could not be read are not among them."""

    folder: Path
    shapes: np.ndarray  # (N, 2): height, width
    labels: np.ndarray  # (N,)
    unreadable: tuple[str, ...]
    _starts: np.ndarray = field(init=False, repr=False)
    _bytes: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._starts = np.concatenate([[0], np.cumsum(3 * self.shapes.prod(1, dtype=np.int64))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bytes": None}  # a loader's process maps the file itself

    def image(self, index: int) -> np.ndarray:
        if self._bytes is None:
            self._bytes = np.memmap(self.folder / "images.u8", np.uint8, "r")
        found = self._bytes[self._starts[index]:self._starts[index + 1]]
        return found.reshape(*self.shapes[index], 3)


def shrunk(image: Image, least: int) -> Image:
    """The image with its shorter side scaled down to `least`; a smaller one as it is."""
    from PIL import Image as module

    scale = least / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(scale * side)) for side in image.size)
    return image.resize((width, height), module.Resampling.BICUBIC, reducing_gap=3.0)


def keep_decoded(files: Files, values: ValueRange, change: Callable[[Image], Image], name: str, *,
                 least: int | None = None) -> Kept | None:
    """The images of `files` after `change`, decoded now unless an earlier call did; None when they would take more
    than KEPT_BYTES.

    Args:
        change: of each image before it is kept; `name` tells it from other changes.
        least: a JPEG may be decoded at a fraction of its size whose sides are at least this.
    """
    def read(path: Path) -> np.ndarray:
        return np.asarray(change(read_rgb(path, least=least, values=values)))

    identity = (VERSION, name, least, values, listing(files))
    folder = cache_folder("decoded", hashlib.sha256(repr(identity).encode()).hexdigest()[:24])
    with FileLock(folder / "lock"):
        if not (folder / "meta.json").exists():
            if _bytes_of(files, read) > KEPT_BYTES:
                return None
            shapes: list[tuple[int, int]] = []
            labels: list[int] = []
            with (folder / "images.u8").open("wb") as file:
                def keep(found: np.ndarray, label: int) -> None:
                    file.write(np.ascontiguousarray(found).data)
                    shapes.append(found.shape[:2])
                    labels.append(label)

                bad = decode_all(files, read, keep)
            np.savez(folder / "index.npz", shapes=np.array(shapes, np.int32).reshape(-1, 2), labels=np.array(labels))
            write_json(folder / "meta.json", {"unreadable": bad})
        bad = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["unreadable"]
        with np.load(folder / "index.npz") as index:
            return Kept(folder, index["shapes"], index["labels"].astype(np.int64), tuple(bad))


def _bytes_of(files: Files, read: Callable[[Path], np.ndarray]) -> float:
    """What all images would take, from a sample of them."""
    sizes = []
    for path, _ in files[:_SAMPLED]:
        try:
            sizes.append(read(path).nbytes)
        except Unreadable:
            continue
    return float(np.mean(sizes)) * len(files) if sizes else 0.0
