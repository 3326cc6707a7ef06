"""Image files of every format, depth and degree of damage: an image as it looks, or the reason why there is none."""

from __future__ import annotations

import random
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import load_task
from nas.data.decode import FORMATS, SUFFIXES, Unreadable, _Budget, read_array, read_rgb
from nas.data.folder import open_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth picture, so that lossy formats keep it."""
    small = np.random.default_rng(seed).integers(40, 215, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def test_the_formats_are_those_of_pillow_that_hold_photographs() -> None:
    Image.init()
    known = Image.registered_extensions()
    for name, suffixes in FORMATS.items():
        assert all(known[suffix] == name for suffix in suffixes)
    assert not SUFFIXES & {".eps", ".ps", ".pdf", ".wmf", ".emf", ".psd", ".ico", ".h5", ".mpg"}


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".pfm", ".mpo", ".pbm", ".pgm", ".jpc", ".j2c", ".jpx", ".jpf"}))
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix.upper()}"
    picture().save(path, format=Image.registered_extensions()[suffix])
    found = np.asarray(read_rgb(path), float)
    assert found.shape == (30, 40, 3)
    assert np.abs(found - np.asarray(picture(), float)).mean() < 12


def test_what_is_no_photograph_is_never_opened(tmp_path: Path) -> None:
    """An EPS file starts Ghostscript; it must not, under any suffix."""
    bait = tmp_path / "image.png"
    bait.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(Unreadable, match="no image of a known format"):
        read_rgb(bait)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        wanted = ImageOps.exif_transpose(image)
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.jpg")), np.asarray(wanted))
    assert read_array(tmp_path / "a.jpg", 24).shape == (24, 24, 3)


def deep(kind: str, value: float) -> Image.Image:
    rng = np.random.default_rng(int(value * 1000) % 1000)
    values = np.clip(rng.normal(value, abs(value) * 0.01 + 1e-3, (30, 40)), None if kind == "signed" else 0, None)
    dtype = {"16": np.uint16, "32": np.int32, "signed": np.int32, "float": np.float32}[kind]
    return Image.fromarray(values.astype(dtype))


# What the images hold -> how they are kept, and two classes that differ in brightness alone.
DEEP = {"16 bits": ("16", ".png", 9_000, 50_000), "12 bits in 16": ("16", ".tif", 1_000, 1_200),
        "32 bits": ("32", ".tif", 2_000_000, 90_000_000), "CT": ("signed", ".tif", -900, 900),
        "floats to 1": ("float", ".tif", 0.3, 0.5), "floats to 255": ("float", ".tif", 20, 200),
        "temperatures": ("float", ".tif", 290, 310), "small floats": ("float", ".tif", 0.05, 0.9)}


@pytest.mark.parametrize("name", DEEP)
def test_classes_that_differ_in_brightness_stay_apart(tmp_path: Path, name: str) -> None:
    kind, suffix, dark, bright = DEEP[name]
    for label, value in (("dark", dark), ("light", bright)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(5):
            deep(kind, value + number * abs(value) * 1e-3).save(tmp_path / "data" / label / f"{number}{suffix}")
    found = open_folder(str(tmp_path / "data"), 0)
    task = load_task(str(tmp_path / "data"), resolution=32)
    batch = task.train.batch(np.arange(8), 32)
    means = batch.images.mean((1, 2, 3))
    assert means[batch.labels == 0].max() + 8 < means[batch.labels == 1].min()
    assert means.max() < 255, "nothing is cut off"
    assert any("is taken as black" in line for line in found.lines)
    assert "is taken as black" in task.note


def corpus(folder: Path) -> list[Path]:
    """Small valid files of several formats, with EXIF where it goes."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8825] = 6, "maker", {1: "N", 2: (1.0, 2.0, 3.0)}
    found = []
    for suffix, options in ((".jpg", {"exif": exif}), (".png", {"exif": exif}), (".webp", {"exif": exif}),
                            (".tif", {}), (".gif", {}), (".bmp", {}), (".qoi", {}), (".tga", {}), (".ppm", {}),
                            (".jp2", {}), (".avif", {"exif": exif})):
        path = folder / f"whole{suffix}"
        picture(1).save(path, **options)
        found.append(path)
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(min(len(data), rng.choice((64, 400, 10**9))))
        data[at] = rng.randrange(256)
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)):]
    if rng.random() < 0.1:
        data[rng.randrange(len(data) + 1):0] = struct.pack("<I", 0xFFFFFFFF)
    return bytes(data) or b"\\0"


def test_damaged_files_give_an_image_or_a_reason(tmp_path: Path) -> None:
    rng = random.Random(0)
    read, reasons = 0, set()
    for whole in corpus(tmp_path):
        content = whole.read_bytes()
        for number in range(60):
            path = tmp_path / f"{number}{whole.suffix}"
            path.write_bytes(mutated(content, rng))
            try:
                read += read_array(path, 16).shape == (16, 16, 3)
            except Unreadable as error:
                reasons.add(str(error))
    assert read > 100
    assert len(reasons) > 5
    assert all("\n" not in reason for reason in reasons)


@pytest.mark.parametrize("error", [TypeError, struct.error, AttributeError, KeyError, OverflowError, MemoryError])
def test_any_error_of_one_image_costs_that_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  error: type[Exception]) -> None:
    """In search and in training: the image is named, the others are used."""
    from PIL import ImageOps

    from nas.data.pictures import open_images

    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(5):
            picture(number + 7 * (label == "b")).save(tmp_path / "data" / label / f"{number}.png")
    bad, real = picture(3), ImageOps.exif_transpose

    def fails(image: Image.Image) -> Image.Image:
        if np.array_equal(np.asarray(image), np.asarray(bad)):
            raise error("no such thing")
        return real(image)

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", fails)
    task = load_task(str(tmp_path / "data"), resolution=32)
    assert len(task.train) + len(task.val) == 9
    assert "1 unreadable image left out: " in task.note
    assert "a/3.png (damaged (" in task.note
    data = open_images(str(tmp_path / "data"), 32)
    assert [data.train.get(n)[0] is None for n in range(len(data.train))].count(True) + [
        data.val.get(n)[0] is None for n in range(len(data.val))].count(True) <= 1


def test_pixels_in_flight_are_bounded() -> None:
    budget, inside, most = _Budget(100), [], []

    def read(pixels: int) -> None:
        with budget.of(pixels):
            inside.append(min(pixels, 100))
            most.append(sum(inside))
            threading.Event().wait(0.002)
            inside.remove(min(pixels, 100))

    threads = [threading.Thread(target=read, args=(pixels,)) for pixels in (60, 60, 500, 30, 90, 1000, 10, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 8
    assert max(most) <= 100


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(
        b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    decoded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: decoded.append(image))
    with pytest.raises(Unreadable, match="more than 178,956,970 pixels"):
        read_rgb(tmp_path / "bomb.png")
    assert not decoded
