"""Tasks: drawn ones repeat and are labelled as drawn; folders of every kind of image are read or named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import load_task
from nas.errors import UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path_factory.mktemp("cache")))


def save(path: Path, mode: str = "RGB", seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(255, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(6):
        save(tmp_path / "photos" / "cat" / f"{index}.png", seed=index)
        save(tmp_path / "photos" / "dog" / f"{index}.jpg", seed=index + 10)
    return tmp_path / "photos"


@pytest.mark.parametrize("name", ["builtin", "shapes"])
def test_drawn_tasks_repeat(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = load_task(name)
    one = first.train.batch(np.arange(5, 9), 48)
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    again = load_task(name).train.batch(np.arange(5, 9), 48)
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.labels, again.labels)
    assert load_task(name).fingerprint == first.fingerprint != load_task(name, seed=1).fingerprint
    assert not np.array_equal(one.images, load_task(name, seed=1).train.batch(np.arange(5, 9), 48).images)
    assert not np.array_equal(one.images, first.val.batch(np.arange(5, 9), 48).images)


def test_dense_targets_say_what_is_drawn() -> None:
    for name, kinds, classes_of_a_kind in (("builtin", 10, 1), ("shapes", 4, 4)):
        task = load_task(name)
        batch = task.val.batch(np.arange(64), 64)
        assert batch.maps is not None
        assert batch.maps.shape == (64, len(task.map_names), 32, 32)
        covered = batch.maps[:, :kinds].astype(float).sum((2, 3))  # how much of each kind there is
        # The class names the largest object; others of the same area are rare.
        assert np.mean(covered.argmax(1) == batch.labels // classes_of_a_kind) > 0.8


def test_no_handwriting_is_in_both_parts() -> None:
    from nas.data.builtin import _strokes

    train, val = ({glyph.tobytes() for glyph in glyphs} for glyphs, _ in _strokes())
    assert len(val & train) <= 1  # the set itself holds a few scans twice
    assert len(train) > 3 * len(val)


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    before = load_task("builtin").val.batch(np.arange(4), 48).images
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(load_task("builtin").val.batch(np.arange(4), 48).images, before)


def test_one_folder_is_split_by_the_seed(folder: Path) -> None:
    task = load_task(str(folder))
    assert (task.resolution, task.class_names, len(task.train), len(task.val)) == (256, ("cat", "dog"), 10, 2)
    assert task.train.batch(np.arange(3), task.proxy_pixels).images.shape == (3, 48, 48, 3)
    assert load_task(str(folder)).fingerprint == task.fingerprint
    assert load_task(str(folder), seed=5).fingerprint != task.fingerprint
    assert load_task(str(folder), resolution=32).proxy_pixels == 32


def test_train_and_val_folders(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "ready"
    root.mkdir()
    (root / "train").symlink_to(folder)
    save(root / "val" / "dog" / "a.webp")
    task = load_task(str(root))
    assert (len(task.train), len(task.val)) == (12, 1)
    assert task.val.batch(np.arange(1), 48).labels.tolist() == [1]


def test_every_kind_of_image_is_read_or_named(folder: Path) -> None:
    save(folder / "cat" / "grey.png", "L")
    save(folder / "cat" / "palette.png", "P")
    save(folder / "cat" / "cmyk.jpg", "CMYK")
    save(folder / "cat" / "transparent.webp", "RGBA")
    save(folder / "cat" / "sixteen.png", "I;16")
    save(folder / "dog" / "cut.jpg", size=(400, 300))
    whole = (folder / "dog" / "cut.jpg").read_bytes()
    (folder / "dog" / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (folder / "dog" / "text.png").write_text("no image")
    (folder / "dog" / "notes.txt").write_text("not looked at")
    task = load_task(str(folder))
    assert len(task.train) + len(task.val) == 12 + 5
    assert "2 unreadable images left out: " in task.note
    assert "cut.jpg" in task.note
    assert "text.png" in task.note


def test_folders_that_are_no_task(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_task(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found 0 class folders"):
        load_task(str(tmp_path / "empty"))
    save(folder / "bird" / "only.png")
    with pytest.raises(UsageError, match="class 'bird' has one image"):
        load_task(str(folder))
    root = tmp_path / "ready"
    save(root / "train" / "a" / "1.png")
    save(root / "train" / "a" / "2.png")
    save(root / "train" / "b" / "1.png")
    save(root / "train" / "b" / "2.png")
    save(root / "val" / "c" / "1.png")
    with pytest.raises(UsageError, match="the class 'c' that training lacks"):
        load_task(str(root))
    (root / "val" / "c" / "1.png").rename(root / "val" / "1.png")
    with pytest.raises(UsageError, match="val/ has no"):
        load_task(str(root))
    for path in folder.rglob("*.*"):
        path.write_text("no image")
    save(folder / "bird" / "second.png")
    with pytest.raises(UsageError, match="could be read"):
        load_task(str(folder))
