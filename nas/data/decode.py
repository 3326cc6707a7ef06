"""One image file as RGB: every place that opens a user's images does it here.

Only the formats of FORMATS are opened. Others that Pillow knows start programs of their own (EPS runs Ghostscript) or
hold no photographs.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's name of each format and the suffixes by which its files are looked for.
FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "MPO": (".mpo",), "PNG": (".png", ".apng"), "WEBP": (".webp",),
    "BMP": (".bmp",), "DIB": (".dib",), "TIFF": (".tif", ".tiff"), "GIF": (".gif",), "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"), "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TGA": (".tga",), "QOI": (".qoi",)}
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
WORDS = "JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF"
MOST_PIXELS = 178_956_970  # of one image, which is Pillow's own limit against decompression bombs
PIXELS_IN_FLIGHT = 64_000_000  # of all images that are being decoded: some 400 MB as RGB with a copy


# Of damaged metadata, which the image's own error tells, and once for each process.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unreadable(Exception):
    """This file gives no image; the message says why."""


@cache
def _opened() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow opens: older ones lack some, and MPO is opened as a JPEG."""
    from PIL import Image as module

    module.init()
    return tuple(name for name in FORMATS if name in module.OPEN)


@dataclass(frozen=True)
class ValueRange:
    """What of images with more than 8 bits becomes 0 and 255. One range holds for a data set, so that classes which
    differ in brightness alone stay apart."""

    whole: tuple[float, float] = (0, 65535)  # of integers, by default the range of their type
    real: tuple[float, float] = (0, 1)  # of floating-point values


TYPE_RANGE = ValueRange()


class _Budget:
    """Lets images in while their pixels together stay below a limit; one larger than that goes in alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.changed = limit, 0, threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        share = min(pixels, self.limit)
        with self.changed:
            self.changed.wait_for(lambda: self.used + share <= self.limit)
            self.used += share
        try:
            yield
        finally:
            with self.changed:
                self.used -= share
                self.changed.notify_all()


_budget = _Budget(PIXELS_IN_FLIGHT)


def read_rgb(path: Path, *, least: int | None = None, values: ValueRange = TYPE_RANGE) -> Image:
    """The image of a file, upright by its EXIF orientation, as RGB; of an animation the first picture.

    Args:
        least: a JPEG may be decoded at a fraction of its size whose sides are at least this, several times faster.
        values: of images with more than 8 bits.

    Raises:
        Unreadable: no such file, no image of these formats, damaged, or larger than MOST_PIXELS.
    """
    from PIL import Image as module
    from PIL import ImageOps

    # Any error of one image costs that image. Of mutated files some hundreds let TypeError, struct.error,
    # AttributeError, KeyError, OverflowError, MemoryError, ... through, and the list grows with every codec.
    try:
        with module.open(path, formats=_opened()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            if least is not None:
                image.draft("RGB", (least, least))
            with _budget.of(image.width * image.height):
                image.load()
                return _rgb(ImageOps.exif_transpose(image), values)
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(_reason(error, path)) from None


def read_array(path: Path, pixels: int, *, values: ValueRange = TYPE_RANGE) -> np.ndarray:
    """uint8 (pixels, pixels, 3): the shorter side scaled, the centre cropped.

    Raises:
        Unreadable: as read_rgb.
    """
    from PIL import Image as module
    from PIL import ImageOps

    image = read_rgb(path, least=2 * pixels, values=values)
    return np.asarray(ImageOps.fit(image, (pixels, pixels), module.Resampling.BILINEAR))


def _reason(error: Exception, path: Path) -> str:
    """Few words, without the path, which whoever names the file says."""
    from PIL import Image as module
    from PIL import UnidentifiedImageError

    if isinstance(error, module.DecompressionBombError):
        return f"more than {MOST_PIXELS:,} pixels"
    if isinstance(error, FileNotFoundError):
        return "a link to nothing" if path.is_symlink() else "no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"no image of a known format ({WORDS})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged ({(str(error) or type(error).__name__).splitlines()[0][:80]})"


def is_deep(image: Image) -> bool:
    """Whether its values are more than 8 bits, which Pillow would cut off at 255."""
    return image.mode == "F" or image.mode.startswith("I")


def _rgb(image: Image, values: ValueRange) -> Image:
    from PIL import Image as module

    if is_deep(image):
        low, high = values.real if image.mode == "F" else values.whole
        found = np.nan_to_num(np.asarray(image, np.float64), nan=low, posinf=high, neginf=low)
        scaled = np.clip((found - low) * (255 / (high - low)), 0, 255)
        return module.fromarray(np.round(scaled).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # else Pillow warns of bytes in the palette's transparency
    return image.convert("RGB")


def deep_values(path: Path) -> tuple[str, float, float] | None:
    """"whole" or "real" with the lowest and highest value of a file whose values have more than 8 bits, else None."""
    from PIL import Image as module

    try:
        with module.open(path, formats=_opened()) as image:
            if not is_deep(image) or image.width * image.height > MOST_PIXELS:
                return None
            with _budget.of(image.width * image.height):
                found: Any = np.asarray(image, np.float64)
            finite = found[np.isfinite(found)]
            return ("real" if image.mode == "F" else "whole", float(finite.min()), float(finite.max()))
    except Exception:
        return None
