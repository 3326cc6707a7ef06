"""Folders as they are published: each layout gives the same classes to search, training and evaluation, or one sentence
on why not."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from nas.data.folder import held_out, open_folder
from nas.data.layout import data_of
from nas.errors import UsageError


def make(root: Path, *names: str) -> Path:
    """Files of these names, each of its own content; an image where the suffix is one."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".jpg", ".png", ".tif", ".bmp"):
            Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(path)
        else:
            path.write_text(name)
    return root


def images(*folders: str, count: int = 2, suffix: str = ".png") -> list[str]:
    return [f"{folder}/{number}{suffix}" for folder in folders for number in range(count)]


PARTED = ("a", "b")


def parts(train: str, val: str | None = None, test: str | None = None) -> list[str]:
    return [*images(*(f"{train}/{c}" for c in PARTED), count=5),
            *(images(*(f"{val}/{c}" for c in PARTED), count=2) if val else ()),
            *(images(*(f"{test}/{c}" for c in PARTED), count=3) if test else ())]


# Name -> files, images for training, for validation, for testing.
READ = {
    "ours": (parts("train", "val"), 10, 4, 0),
    "validation and test": (parts("train", "validation", "test"), 10, 4, 6),
    "valid": (parts("train", "valid", "test"), 10, 4, 6),
    "capitals": (parts("Train", "VAL", "Test"), 10, 4, 6),
    "training and testing": (parts("training", "dev", "testing"), 10, 4, 6),
    "with a year": (parts("train2017", "val2017", "test2017"), 10, 4, 6),
    "with a word": (parts("train_set", "val-images"), 10, 4, 0),
    "train and test alone": (parts("train", test="test"), 8, 2, 6),
    "train alone": (parts("train"), 8, 2, 0),
    "one folder a class": (images("a", "b", count=5), 8, 2, 0),
    "deeper files": (images("a/x/y", "a/z", "b/x", count=5), 12, 3, 0),
    "unpacked archive": ([f"set/set/{name}" for name in parts("train", "val")], 10, 4, 0),
    "wrapped split": ([*images("train/train/a", "train/train/b", count=5), *images("val/a", "val/b")], 10, 4, 0),
    "unlabelled test images": ([*parts("train", "val"), *images("test", count=4)], 10, 4, 0),
    "macOS archive": ([*parts("train", "val"), "__MACOSX/train/a/._0.png", "train/a/._0.png"], 10, 4, 0),
    "notebook copies": ([*images("a", "b", count=5), "a/.ipynb_checkpoints/0-checkpoint.png",
                         ".ipynb_checkpoints/0.png"], 8, 2, 0),
    "other files": ([*images("a", "b", count=5), "a/notes.txt", "b/labels.csv", "README.md", "a/Thumbs.db"], 8, 2, 0),
    "images outside of classes": ([*images("a", "b", count=5), "cover.jpg"], 8, 2, 0),
    "a folder beside the splits": ([*parts("train", "val"), "docs/a.png"], 10, 4, 0),
    "a class called like a split": (images("train/bus", "train/train", "val/bus", "val/train", count=3), 6, 6, 0),
    "suffixes in capitals": (images("a", "b", count=5, suffix=".PNG"), 8, 2, 0),
}

# Name -> files, words of the sentence.
REFUSED = {
    "a split among classes": ([*images("cat", "dog", "test", count=3)], "'test' carries the name of a split"),
    "a parted split among classes": ([*images("cat", "dog", "test/a", "test/b")], "'test' carries the name of a split"),
    "images in train": (images("train", "val", count=3), "'train' carries the name of a split"),
    "two of one split": ([*parts("train", "val"), *images("valid/a", "valid/b")], "both look like the split 'val'"),
    "splits inside of train": ([f"train/{name}" for name in [*parts("train", "val"), "more/0.png"]],
                               "carries the name of a split"),
    "no train": ([f"{part}/{c}/0.png" for part in ("val", "test") for c in PARTED], "has val/ and test/ but no train/"),
    "one class": (images("a"), "found 1 class folders"),
    "nothing": (["README.md"], "found 0 class folders"),
    "only other files": (["a/0.heic", "b/0.heic"], r"found 0 class folders.*\.heic"),
    "a class unknown to training": ([*parts("train", "val"), "val/c/0.png"], "the class 'c' that training lacks"),
    "a class in capitals": ([*images("train/cat", "train/dog", "val/Cat", "val/dog")], "'cat' is written otherwise"),
    "an empty validation split": ([*parts("train"), "val/a/notes.txt"], "val/ has no .* images in class folders"),
    "a single image": ([*images("a"), "b/0.png"], "class 'b' has one image"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", READ)
def test_layouts_are_read(tmp_path: Path, layout: str) -> None:
    names, *wanted = READ[layout]
    found = open_folder(str(make(tmp_path / "data", *names)), 0)
    assert [len(found.train), len(found.val), len(found.test)] == wanted
    assert len(found.class_names) == 2
    assert not {path for path, _ in found.train} & {path for path, _ in found.val + found.test}
    said = "\n".join(found.lines)
    assert all(name in said for name in found.class_names)
    assert f"{wanted[0]} images for training, {wanted[1]} for validation" in said
    for path, label in found.train + found.val + found.test:
        assert found.class_names[label] in path.parts
    evaluated = held_out(str(tmp_path / "data"))
    if wanted[2] or "val" in "".join(names).lower():
        assert len(evaluated[1]) == (wanted[2] or wanted[1]), "test/ before val/ for evaluation"
    assert evaluated[0] == found.class_names


@pytest.mark.parametrize("layout", REFUSED)
def test_others_are_refused_in_one_sentence(tmp_path: Path, layout: str) -> None:
    names, words = REFUSED[layout]
    with pytest.raises(UsageError, match=words) as caught:
        open_folder(str(make(tmp_path / "data", *names)), 0)
    assert "\n" not in str(caught.value)


def test_folders_that_the_user_names(tmp_path: Path) -> None:
    root = make(tmp_path, *images("data/cat", "data/train", "held/cat", "held/train", count=3), *images("data/x/more"))
    for given, counts in (((str(root / "data"), ".", "../held"), [8, 6]), ((None, str(root / "data"), None), [5, 3]),
                          ((str(root / "held"), None, str(root / "held")), [6, 6])):
        if given[1] is None:
            (root / "held" / "train").rename(root / "held" / "tram")
        found = open_folder(str(data_of(*given)), 0)
        assert [len(found.train), len(found.val)] == counts
        assert "cat" in found.class_names
    make(root / "mixed", *images("cat", "dog", "kept aside/cat", "kept aside/dog", count=3))
    inside = open_folder(str(data_of(str(root / "mixed"), None, "kept aside")), 0)
    assert (inside.class_names, len(inside.train), len(inside.val)) == (("cat", "dog"), 6, 6)
    with pytest.raises(UsageError, match=r"--val-dir .*nowhere: no such folder"):
        open_folder(f"{root}::{root / 'nowhere'}", 0)
    with pytest.raises(UsageError, match="name the images to train on"):
        data_of(None, None, str(root))
    with pytest.raises(UsageError, match="has no folders"):
        data_of("builtin", "train", None)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data", *images("a", "b", count=5), "a/x.heic", "a/y.heic", "b/noted", "b/.hidden.png",
                "cover.jpg", "c/only.txt")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "a" / "pipe.png")
    said = "\n".join(open_folder(str(root), 0).lines)
    for words in ("2 left out, .heic is no image that is read here: a/x.heic, a/y.heic",
                  "1 left out, a link to nothing",
                  "1 left out, no suffix, which is no image", "1 left out, hidden or left behind",
                  "1 left out, outside of class folders: cover.jpg", "1 left out, neither file nor folder: a/pipe.png",
                  "1 left out, a class folder without"):
        assert words in said, said


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    root = make(tmp_path / "data", *images("a", "b", count=5))
    make(tmp_path / "elsewhere", *images("more", count=3, suffix=".bmp"))
    (root / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "c").symlink_to(tmp_path / "elsewhere" / "more")
    found = open_folder(str(root), 0)
    assert Counter(found.class_names[label] for _, label in found.train + found.val) == {"a": 8, "b": 5, "c": 3}
    assert any("a link to a folder that was read already" in line for line in found.lines)


def test_copies_between_splits_are_counted_and_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data", *parts("train", "val", "test"))
    for part, name in (("val", "twin.png"), ("test", "twin.png"), ("test", "triplet.png")):
        (root / part / "a" / name).write_bytes((root / "train/a/1.png").read_bytes())
    said = "\n".join(open_folder(str(root), 0).lines)
    assert "1 of the 5 images in val/ are in the training images too" in said
    assert "val/a/twin.png" in said
    assert "2 of the 8 images in test/ are in the training images too" in said


@pytest.mark.parametrize("seed", range(6))
def test_copies_stay_together_when_the_seed_splits(tmp_path: Path, seed: int) -> None:
    root = make(tmp_path / "data", *images("a", "b", count=6))
    for number in range(6):
        for copy in ("copy", "again"):
            (root / "a" / f"{copy}{number}.png").write_bytes((root / "a" / f"{number}.png").read_bytes())
        (root / "b" / f"other{number}.png").write_bytes((root / "a" / f"{number}.png").read_bytes())
    found = open_folder(str(root), seed)
    train, val = ({path.read_bytes() for path, _ in files} for files in (found.train, found.val))
    assert train
    assert val
    assert not train & val
    assert len(found.train) + len(found.val) == 30


def test_test_classes_that_differ_are_named(tmp_path: Path) -> None:
    names = images("train/a", "train/b", "val/a", "val/b", "test/a", "test/c")
    said = "\n".join(open_folder(str(make(tmp_path / "data", *names)), 0).lines)
    assert "test/ has the class 'c', which training lacks" in said
    assert "test/ has no images of 1 of the classes: b" in said


def test_a_class_without_validation_images_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data", *images("train/a", "train/b", "train/c", "val/a", "val/b"))
    assert "val/ has no images of 1 of the classes: c" in "\n".join(open_folder(str(root), 0).lines)
