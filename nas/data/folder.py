"""A folder of images as a data set and as a task. The one place where search, training, evaluation and calibration
learn which images there are; what a folder may look like stands in layout.py, how a file is opened in decode.py.

Proxies' images are decoded once, at the size that they train at, and kept in the cache; later runs map that file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from nas.data.decode import TYPE_RANGE, WORDS, Unreadable, ValueRange, deep_values, read_array
from nas.data.layout import LeftOut, Splits, check_same_classes, classes_in, find_splits
from nas.data.order import mixed
from nas.data.spec import BETWEEN
from nas.data.task import PROXY_PIXELS, ArraySplit, Batch, Task
from nas.errors import Failure, UsageError
from nas.files import cache_folder, write_json

VERSION = 3  # of the images, their order and so of the fingerprint; 1 listed them class after class
VALIDATION_SHARE = 0.2
KEPT_BYTES = 4e9  # of decoded images in the cache, for each size that they are needed at
MOST_HASHED = 200_000  # files that are compared by content; of more, duplicates are not looked for
_NAMED = 5  # files named in a line; the cache's meta.json has all
_SHALLOW = {".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".avif", ".avifs", ".mpo", ".qoi"}
_SAMPLED = 200  # files whose values tell the range of images with more than 8 bits

Files = list[tuple[Path, int]]  # with their labels


@dataclass(frozen=True)
class DataSet:
    """The labelled files of a folder, each list in mixed order (order.py), and what the user should know of them."""

    splits: Splits
    class_names: tuple[str, ...]
    train: Files
    val: Files
    test: Files
    values: ValueRange
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.splits.root.name


def _listed(found: dict[str, list[Path]], names: Sequence[str]) -> Files:
    files = [(path, label) for label, name in enumerate(names) for path in found.get(name, [])]
    return [files[number] for number in mixed([label for _, label in files])]


def open_folder(data: str, seed: int) -> DataSet:
    """The data set that `data` names: a folder, or TRAIN_DIR::VAL_DIR. Where it has no validation split, the seed
    draws one of VALIDATION_SHARE from each class of the training images, copies of one file staying together.

    Raises:
        UsageError: fewer than two classes, classes that differ between splits, or a class that cannot be split.
    """
    left_out = LeftOut()
    splits = find_splits(data, left_out)
    if splits.train is None:
        there = " and ".join(folder.name + "/" for folder in (splits.val, splits.test) if folder is not None)
        raise UsageError(f"--data {data}: it has {there} but no train/; name the training images with --train-dir")
    train = classes_in(splits.train, left_out, checked=BETWEEN not in data, without=splits.val)
    names = tuple(train)
    if len(names) < 2:
        raise UsageError(f"--data {data}: found {len(names)} class folders with {WORDS} images in {splits.train}, "
                         "expected at least 2" + "".join(f"; {line}" for line in left_out.lines(splits.root)[:2]))
    lines = []
    if splits.val is not None:
        val = classes_in(splits.val, left_out)
        if not val:
            raise UsageError(f"--data {data}: {splits.val.name}/ has no {WORDS} images in class folders")
        lines += _missing(check_same_classes(names, val, splits.val), splits.val)
        lines += _copies(train, val, splits.val)
        shown = f"{splits.val.name}/"
    else:
        train, val = _split(data, train, seed)
        shown = f"drawn from them by seed {seed}"
    test: dict[str, list[Path]] = {}
    if splits.test is not None:
        test = classes_in(splits.test, left_out)
        lines += [f"{splits.test.name}/ has the class {name!r}, which training lacks" for name in test
                  if name not in names][:_NAMED]
        lines += _missing([name for name in names if name not in test], splits.test)
        lines += _copies(train, test, splits.test)
    listed = [_listed(part, names) for part in (train, val, test)]
    values, said = value_range(listed[0])
    head = [_count_line(splits, names, [len(part) for part in listed], shown), _class_line(train),
            "for example " + ", ".join(os.path.relpath(part[0][0], splits.root) for part in listed if part)]
    return DataSet(splits, names, listed[0], listed[1], listed[2], values,
                   (*head, *lines, *said, *left_out.lines(splits.root)))


def held_out(data: str, split: str | None = None) -> tuple[tuple[str, ...], Files, ValueRange, tuple[str, ...]]:
    """Class names, files, value range and lines for the user of the images to evaluate on: the split that is asked
    for, else test/, else val/, else the folder itself with one folder a class.

    Raises:
        UsageError: no such split, or no images in class folders.
    """
    left_out = LeftOut()
    splits = find_splits(data, left_out)
    by_name = {"test": splits.test, "val": splits.val, "train": splits.train}
    folder = by_name[split] if split else splits.test or splits.val or splits.train
    if folder is None:
        there = ", ".join(name for name, part in by_name.items() if part is not None)
        raise UsageError(f"--split {split}: {data} has no such split; it has {there}")
    found = classes_in(folder, left_out, checked=False)
    if not found:
        raise UsageError(f"--data {data}: expected one folder a class with {WORDS} images in {folder}"
                         + "".join(f"; {line}" for line in left_out.lines(splits.root)[:2]))
    names = tuple(found)
    values, said = value_range(_listed(classes_in(splits.train, LeftOut(), checked=False), names)
                                if splits.train is not None else _listed(found, names))
    files = _listed(found, names)
    line = f"evaluated on the {len(files):,} images in {folder} ({len(names)} classes)"
    return names, files, values, (line, *said, *left_out.lines(splits.root))


def _count_line(splits: Splits, names: Sequence[str], counts: Sequence[int], val: str) -> str:
    shown = ", ".join(names[:10]) + (f", ... {names[-1]}" if len(names) > 10 else "")
    test = "" if splits.test is None else f", {counts[2]:,} in {splits.test.name}/, kept for `evaluate`"
    return (f"data {splits.root}: {len(names)} classes ({shown}); {counts[0]:,} images for training, {counts[1]:,} for "
            f"validation ({val}){test}")


def _class_line(train: dict[str, list[Path]]) -> str:
    most, least = (pick(train, key=lambda name: len(train[name])) for pick in (max, min))
    return (f"images of a class for training: {len(train[least]):,} ({least}) to {len(train[most]):,} ({most})"
            if len(train[least]) != len(train[most]) else f"{len(train[most]):,} images of each class for training")


def _missing(names: Sequence[str], folder: Path) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return [f"{folder.name}/ has no images of {len(names)} of the classes: {shown}"]


def _split(data: str, found: dict[str, list[Path]], seed: int) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Training and validation files by class. Files of equal content are on one side, so that none is in both."""
    rng = np.random.default_rng(seed)
    same = same_content([path for files in found.values() for path in files])
    train: dict[str, list[Path]] = {}
    val: dict[str, list[Path]] = {}
    sides: dict[Path, bool] = {}  # whether an image, and with it every copy in any class, is held out
    for name, files in found.items():
        if len(files) < 2:
            raise UsageError(f"--data {data}: class {name!r} has one image, expected at least 2; add images or leave "
                             "the class out")
        groups: dict[Path, list[Path]] = {}
        for path in files:
            groups.setdefault(same.get(path, path), []).append(path)
        firsts = list(groups)
        wanted = max(1, round(VALIDATION_SHARE * len(files)))
        held = [path for first in firsts if sides.get(first) for path in groups[first]]
        free = [first for first in firsts if first not in sides]
        for number in rng.permutation(len(free))[:len(free) - (len(free) == len(firsts))]:
            sides[free[number]] = len(held) < wanted
            held += groups[free[number]] if sides[free[number]] else []
        for first in firsts:
            sides.setdefault(first, False)
        if not 0 < len(held) < len(files):  # copies of one file, or of other classes' images: no side can hold
            held = files[:wanted]
        kept = set(held)
        val[name], train[name] = held, [path for path in files if path not in kept]
    return train, val


def same_content(files: Sequence[Path]) -> dict[Path, Path]:
    """Files that are byte for byte the same as an earlier one, with that one; empty for more than MOST_HASHED files.

    What was found is kept in the cache, by names, sizes and times of the files.
    """
    if len(files) > MOST_HASHED:
        return {}
    stats = [(path, os.stat(path)) for path in files]
    key = hashlib.sha256(repr([(str(p), s.st_size, s.st_mtime_ns) for p, s in stats]).encode()).hexdigest()[:24]
    kept = cache_folder("folders", "copies") / f"{key}.json"
    try:
        return {files[copy]: files[first] for copy, first in json.loads(kept.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, IndexError):
        pass
    by_size: dict[int, list[int]] = {}
    for number, (_, stat) in enumerate(stats):
        by_size.setdefault(stat.st_size, []).append(number)
    alike = [number for numbers in by_size.values() if len(numbers) > 1 for number in numbers]
    firsts: dict[bytes, int] = {}
    copies = []
    with ThreadPoolExecutor(_threads()) as pool:
        for number, digest in zip(alike, pool.map(lambda number: _digest(files[number]), alike), strict=True):
            if digest is not None and (first := firsts.setdefault(digest, number)) != number:
                copies.append((number, first))
    write_json(kept, copies)
    return {files[copy]: files[first] for copy, first in copies}


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None


def _copies(train: dict[str, list[Path]], other: dict[str, list[Path]], folder: Path) -> list[str]:
    """A line on images that lie in both splits."""
    mine = [path for files in train.values() for path in files]
    theirs = [path for files in other.values() for path in files]
    if len(mine) + len(theirs) > MOST_HASHED:
        return [f"more than {MOST_HASHED:,} images: copies between the splits were not looked for"]
    own, same = set(mine), same_content([*mine, *theirs])
    found = [(path, same[path]) for path in theirs if same.get(path) in own]
    if not found:
        return []
    shown = ", ".join(f"{folder.name}/{os.path.relpath(path, folder)}" for path, _ in found[:_NAMED])
    return [f"{len(found)} of the {len(theirs):,} images in {folder.name}/ are in the training images too (the same "
            f"bytes), so its accuracy is too high: {shown}{', ...' if len(found) > _NAMED else ''}"]


def value_range(files: Files) -> tuple[ValueRange, list[str]]:
    """What becomes black and white of images with more than 8 bits, from a sample of them; and a line on it.

    Integers go from 0, or a negative power of two, to the last value of as many bits as the sample needs: 12-bit
    X-rays in 16-bit files keep their contrast. Floating-point values within 0 to 1 are taken as that, others as from
    the sample's lowest to its highest.
    """
    candidates = [path for path, _ in files if path.suffix.lower() not in _SHALLOW][:_SAMPLED]
    if not candidates:
        return TYPE_RANGE, []
    with ThreadPoolExecutor(_threads()) as pool:
        found = [values for values in pool.map(deep_values, candidates) if values is not None]
    ranges, said = {"whole": TYPE_RANGE.whole, "real": TYPE_RANGE.real}, []
    for kind, words in (("whole", "more than 8 bits"), ("real", "floating-point values")):
        if not (seen := [(low, high) for what, low, high in found if what == kind]):
            continue
        low, high = min(low for low, _ in seen), max(high for _, high in seen)
        if kind == "whole":
            ranges[kind] = (-_power(-low) if low < 0 else 0.0, float(_power(high + 1, 256) - 1))
        elif low < 0 or high > 1:
            ranges[kind] = (low, high if high > low else low + 1)
        said.append(f"images with {words}: {ranges[kind][0]:g} is taken as black and {ranges[kind][1]:g} as white")
    return ValueRange(**ranges), said


def _power(value: float, least: int = 1) -> int:
    """The smallest power of two that is not below `value` and `least`."""
    found = least
    while found < value:
        found *= 2
    return found


def _threads() -> int:
    return min(16, 2 * (os.cpu_count() or 1))


def decode_all(files: Files, read: Callable[[Path], np.ndarray], keep: Callable[[np.ndarray, int], None]) -> list[str]:
    """Hand each readable image with its label to `keep`, in order; the others, each with its reason."""
    def attempt(path: Path) -> np.ndarray | str:
        try:
            return read(path)
        except Unreadable as error:
            return f"{path} ({error})"

    bad = []
    with ThreadPoolExecutor(_threads()) as pool:
        # In portions: images that were decoded but not kept yet must not fill the memory.
        for start in range(0, len(files), 256):
            some = files[start:start + 256]
            for (_, label), found in zip(some, pool.map(attempt, [path for path, _ in some]), strict=True):
                if isinstance(found, str):
                    bad.append(found)
                else:
                    keep(found, label)
    return bad


def unreadable_line(bad: Sequence[str]) -> str:
    shown = ", ".join(bad[:_NAMED]) + (f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else "")
    return f"{len(bad)} unreadable image{'s' * (len(bad) > 1)} left out: {shown}"


def _store(files: Files, pixels: int, values: ValueRange, folder: Path, part: str,
           digest: Any) -> tuple[int, list[str]]:
    """Decode into `folder`; how many could be read, and which could not."""
    images = np.lib.format.open_memmap(folder / f"{part}-images.npy", "w+", np.uint8, (len(files), pixels, pixels, 3))
    labels: list[int] = []

    def keep(found: np.ndarray, label: int) -> None:
        images[len(labels)] = found
        digest.update(np.ascontiguousarray(found).data)
        labels.append(label)

    bad = decode_all(files, lambda path: read_array(path, pixels, values=values), keep)
    digest.update(repr(labels).encode())
    images.flush()
    np.save(folder / f"{part}-labels.npy", np.array(labels, np.int64))
    return len(labels), bad


def listing(files: Files) -> list[tuple[str, int, int, int]]:
    """Names, labels, sizes and times of files: what tells whether they changed."""
    found = []
    for path, label in files:
        stat = os.stat(path)
        found.append((str(path), label, stat.st_size, stat.st_mtime_ns))
    return found


@dataclass(frozen=True)
class FileSplit:
    """Images that are decoded whenever they are asked for: of a folder too large to be kept decoded. One that cannot
    be read gives way to the next that can, with that one's label.

    Raises:
        Failure: none of a hundred images in a row can be read.
    """

    files: Files
    values: ValueRange = TYPE_RANGE

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: np.ndarray, pixels: int) -> Batch:
        with ThreadPoolExecutor(_threads()) as pool:
            found = list(pool.map(lambda index: self._next(int(index), pixels), indices))
        return Batch(np.stack([image for image, _ in found]), np.array([label for _, label in found], np.int64))

    def _next(self, index: int, pixels: int) -> tuple[np.ndarray, int]:
        for step in range(min(100, len(self.files))):
            path, label = self.files[(index + step) % len(self.files)]
            try:
                return read_array(path, pixels, values=self.values), label
            except Unreadable:
                continue
        raise Failure(f"{self.files[index][0]} cannot be read, and neither can the images after it")


def whole_task(data: str | Path, resolution: int, seed: int) -> Task:
    """The task in a folder with its images at `resolution`, which proxies need not: kept decoded as `folder_task` keeps
    them, up to KEPT_BYTES, and decoded again and again beyond.

    Raises as `folder_task`.
    """
    there = open_folder(str(data), seed)
    if 3 * resolution**2 * (len(there.train) + len(there.val)) <= KEPT_BYTES:
        return folder_task(data, resolution, seed, pixels=resolution)
    return Task(there.name, resolution, there.class_names, FileSplit(there.train, there.values),
                FileSplit(there.val, there.values), f"files-{resolution}px", note="\n".join(there.lines))


def folder_task(data: str | Path, resolution: int, seed: int, *, pixels: int | None = None) -> Task:
    """The task in a folder, or in TRAIN_DIR::VAL_DIR, its images kept at `pixels`, which None makes those of proxies.

    Raises:
        UsageError: as open_folder, or nothing that can be read.
    """
    there = open_folder(str(data), seed)
    pixels = pixels or min(resolution, PROXY_PIXELS)
    identity = (VERSION, pixels, there.values, len(there.train), listing(there.train + there.val))
    cache = cache_folder("folders", hashlib.sha256(repr(identity).encode()).hexdigest()[:24])
    with FileLock(cache / "lock"):
        if not (cache / "meta.json").exists():
            digest = hashlib.sha256(repr((VERSION, pixels, there.class_names)).encode())
            counts = {part: _store(files, pixels, there.values, cache, part, digest)
                      for part, files in (("train", there.train), ("val", there.val))}
            write_json(cache / "meta.json", {
                "folder": str(there.splits.root), "content": digest.hexdigest()[:16],
                "counts": {part: count for part, (count, _) in counts.items()},
                "unreadable": [words for _, bad in counts.values() for words in bad]})
    meta = json.loads((cache / "meta.json").read_text(encoding="utf-8"))
    bad = meta["unreadable"]
    for part, count in meta["counts"].items():
        if not count:
            raise UsageError(f"--data {data}: no image for {part} could be read; expected {WORDS} files; the first is "
                             f"{bad[0]}")
    lines = [*there.lines, *([unreadable_line(bad)] if bad else [])]
    train, val = (ArraySplit(np.load(cache / f"{part}-images.npy", mmap_mode="r")[:meta["counts"][part]],
                             np.load(cache / f"{part}-labels.npy")) for part in ("train", "val"))
    if bad and (gone := sorted(set(range(len(there.class_names))) - set(train.labels.tolist()))):
        lines.append(f"no training image of the class {there.class_names[gone[0]]!r} can be read")
    return Task(there.name, resolution, there.class_names, train, val,
                fingerprint=f"{meta['content']}-{resolution}px", proxy_pixels=pixels, note="\n".join(lines))
