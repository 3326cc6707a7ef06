"""Folders are sorted by class: whatever takes some of their images must meet all classes in proportion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastvit import FastViTConfig
from nas.data import Batch, Split, load_task
from nas.data.order import mixed

CLASSES, TRAIN, VAL, SOME = 8, 40, 20, 32
SMALL = FastViTConfig((1, 1, 1, 1), (16, 32, 64, 128), (2, 2, 2, 2), ("repmixer",) * 4)


@pytest.fixture
def sorted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train/ and val/, a class a folder; an image is as bright as its class says."""
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    for part, count in (("train", TRAIN), ("val", VAL)):
        for label in range(CLASSES):
            folder = tmp_path / "photos" / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("L", (32, 32), 16 * label + 8).save(folder / f"{number:02d}.png")
    return tmp_path / "photos"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 99))
def test_every_beginning_holds_the_classes_in_proportion(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = mixed(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    counts = np.cumsum(labels[order][:, None] == np.arange(len(sizes)), axis=0)
    share = np.arange(1, len(labels) + 1)[:, None] * np.array(sizes) / len(labels)
    # A class is off by one image, and so is what the beginning is long: the other classes' rounding, summed.
    assert np.all(np.abs(counts - share) <= 2 + len(sizes) * np.array(sizes) / len(labels))
    assert np.array_equal(order, mixed(labels, seed))


class Seen:
    """A split that notes the labels it was asked for."""

    def __init__(self, split: Split) -> None:
        self.split, self.labels = split, []

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, indices: np.ndarray, pixels: int) -> Batch:
        found = self.split.batch(indices, pixels)
        self.labels += found.labels.tolist()
        return found


def of_colour(images: np.ndarray) -> list[int]:
    """Labels of normalised images (N, 3, H, W)."""
    grey = 255 * (images[:, 0].mean((1, 2)) * 0.229 + 0.485)
    return [round((value - 8) / 16) for value in grey.tolist()]


def proxy_statistics(folder: Path) -> list[int]:
    return _proxy(folder)[0]


def proxy_validation(folder: Path) -> list[int]:
    return _proxy(folder)[1]


def _proxy(folder: Path) -> tuple[list[int], list[int]]:
    from nas.proxy.train import Trainer

    task = load_task(str(folder), resolution=32)
    train, val = Seen(task.train), Seen(task.val)
    trainer = Trainer(SMALL, replace(task, train=train, val=val))
    trainer.evaluate()
    return train.labels, val.labels


def proxies_of_an_unsplit_folder(folder: Path) -> list[int]:
    return _proxy(folder / "train")[1]


def first_of_a_training_set(folder: Path) -> list[int]:
    from nas.data.pictures import open_images

    return [label for _, label in map(open_images(str(folder), 32).train.get, range(SOME))]


def first_of_a_validation_set(folder: Path) -> list[int]:
    from nas.data.pictures import open_images

    return [label for _, label in map(open_images(str(folder), 32).val.get, range(SOME))]


def calibration_by_export(folder: Path) -> list[int]:
    from nas.export.images import calibration_images

    return of_colour(calibration_images(str(folder / "train"), 32, limit=SOME))


def calibration_after_training(folder: Path) -> list[int]:
    from nas.data.pictures import open_images
    from nas.recipe import Recipe
    from nas.train.finish import _calibration

    variant = SimpleNamespace(recipe=Recipe(resolution=32, crop_pct=1.0), mean=(0.485,) * 3, std=(0.229,) * 3)
    return of_colour(_calibration({"formats": ["onnx-int8"]}, open_images(str(folder), 32), variant))


def limited_evaluation(folder: Path) -> list[int]:
    from nas.evaluate.run import _Some, labelled

    some = _Some(labelled(folder)[1], SOME)
    return [some.get(number)[1] for number in range(len(some))]


@pytest.mark.parametrize("taken", [
    proxy_statistics, proxy_validation, proxies_of_an_unsplit_folder, first_of_a_training_set,
    first_of_a_validation_set, calibration_by_export, calibration_after_training, limited_evaluation])
def test_some_images_of_a_sorted_folder_are_of_all_classes(
        sorted_folder: Path, monkeypatch: pytest.MonkeyPatch, taken: Callable[[Path], Sequence[int]]) -> None:
    monkeypatch.setattr("nas.proxy.train.CALIBRATION_IMAGES", SOME)
    monkeypatch.setattr("nas.proxy.train.VALIDATION_IMAGES", SOME)
    monkeypatch.setattr("nas.train.finish.CALIBRATION", SOME)
    counts = np.bincount(taken(sorted_folder), minlength=CLASSES)
    assert counts.sum() == SOME
    assert counts.min() >= SOME // CLASSES - 1, f"images of each class: {counts}"
    assert counts.max() <= SOME // CLASSES + 1, f"images of each class: {counts}"
