"""Images that are decoded once: the same pixels as the file's, by number, in every process, within a bound."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.decode import TYPE_RANGE, read_rgb
from nas.data.folder import Files
from nas.data.kept import keep_decoded, shrunk
from nas.data.pictures import EvalSet, decoded, open_images
from nas.recipe import Recipe
from nas.train.data import TrainSet


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    found = []
    for number in range(12):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(255, size=(5, 6, 3), dtype=np.uint8))
        small.resize((30 + 9 * number, 50)).save(path)
        found.append((path, number % 2))
    return found


def test_they_are_decoded_once_and_the_same(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files[3][0].write_text("damaged")
    kept = keep_decoded(files, TYPE_RANGE, partial(shrunk, least=40), "40")
    assert kept is not None
    assert len(kept) == 11
    assert "3.png" in kept.unreadable[0]
    whole = [file for number, file in enumerate(files) if number != 3]
    monkeypatch.setattr("nas.data.kept.read_rgb", lambda *_, **__: pytest.fail("decoded again"))
    for other in (kept, pickle.loads(pickle.dumps(kept)), keep_decoded(files, TYPE_RANGE, shrunk, "40")):
        assert other.labels.tolist() == [label for _, label in whole]
        for number, (path, _) in enumerate(whole):
            image = read_rgb(path)
            assert np.array_equal(other.image(number), np.asarray(shrunk(image, 40)))
            assert min(other.image(number).shape[:2]) == min(40, min(image.size))


def test_a_file_that_changed_is_decoded_again(files: Files) -> None:
    before = keep_decoded(files, TYPE_RANGE, lambda image: image, "whole")
    Image.new("RGB", (9, 9), (1, 2, 3)).save(files[0][0])
    after = keep_decoded(files, TYPE_RANGE, lambda image: image, "whole")
    assert before is not None
    assert after is not None
    assert after.image(0).shape == (9, 9, 3)
    assert np.array_equal(before.image(1), after.image(1))


def test_the_disk_they_take_is_bounded(files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nas.data.kept.KEPT_BYTES", 1000)
    assert keep_decoded(files, TYPE_RANGE, lambda image: image, "whole") is None
    assert not list((tmp_path / "cache").rglob("*.u8"))
    data, _ = decoded(open_images(str(files[0][0].parents[1]), 32), Recipe(resolution=32))
    assert data.train.kept is None
    assert data.train.get(0)[0] is not None


def test_training_and_evaluation_see_the_same_images_as_from_files(files: Files) -> None:
    recipe = Recipe(resolution=32)
    plain = open_images(str(files[0][0].parents[1]), 32)
    quick, bad = decoded(plain, recipe)
    assert not bad
    assert quick.val.ready
    one, other = (EvalSet(data.val, 32, (0.4,) * 3, (0.2,) * 3, recipe.crop_pct, recipe.interpolation)
                  for data in (plain, quick))
    assert len(one) == len(other)
    for number in range(len(one)):
        assert torch.equal(one[number][0], other[number][0])
        assert one[number][1] == other[number][1]
    # No image is larger than twice the resolution here, so that even training images are the very same.
    one_set, other_set = (TrainSet(data.train, recipe, (0.4,) * 3, (0.2,) * 3) for data in (plain, quick))
    for number in range(len(quick.train)):
        assert torch.equal(one_set[3, number][0], other_set[3, number][0])
