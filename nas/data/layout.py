"""What a data set's folder holds: its splits, its classes, their image files, and what was left out and why.

Layouts that are read: train/ beside val/ and test/ under any of their usual names, in any case; train/ alone, or one
folder a class, which the seed then splits. Only names and sizes are looked at here; images are opened in decode.py.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nas.data.decode import SUFFIXES, WORDS
from nas.data.spec import BETWEEN, DRAWN
from nas.errors import UsageError

_SPLIT = re.compile(r"(?:(?P<train>train|training)|(?P<val>val|valid|validation|dev)|(?P<test>test|testing))"
                    r"(?:[-_ ]?(?:set|split|data|images|imgs|\d{4}))?", re.IGNORECASE)
_SKIPPED = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "__pycache__"}
_SYSTEM = {"thumbs.db", "desktop.ini"}
_NAMED = 3  # examples of each reason


def split_of(name: str) -> str | None:
    """"train", "val" or "test" for a folder's name that says so, else None."""
    found = _SPLIT.fullmatch(name)
    return None if found is None else found.lastgroup


@dataclass
class LeftOut:
    """Files and folders that are not used, by reason, with the first few of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: Path | str) -> None:
        self.counts[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < _NAMED:
            named.append(str(path))

    def lines(self, root: Path) -> list[str]:
        """One for each reason, the most frequent first."""
        found = []
        for reason, count in self.counts.most_common():
            named = [os.path.relpath(path, root) if os.path.isabs(path) else path for path in self.examples[reason]]
            found.append(f"{count} left out, {reason}: {', '.join(named)}{', ...' if count > len(named) else ''}")
        return found


def _is_skipped(name: str) -> bool:
    """What systems and tools leave behind: hidden files, copies of notebooks, resource forks of macOS."""
    return name.startswith(".") or name.casefold() in _SKIPPED


def sub_folders(folder: Path) -> list[Path]:
    """Folders in a folder, in order of their names, without what tools leave behind.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not _is_skipped(child.name))
    except OSError as error:
        raise UsageError(f"--data {folder}: cannot be read ({error.strerror})") from None


def images_below(folder: Path, left_out: LeftOut, *, deep: bool = True) -> list[Path]:
    """Files below `folder` whose suffix is one of an image, links followed, each real folder once, in order."""
    return list(_walk(folder, left_out, deep, set()))


def _walk(folder: Path, left_out: LeftOut, deep: bool, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        left_out.add("a link to a folder that was read already", folder)
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        left_out.add(f"cannot be read ({error.strerror})", folder)
        return
    for entry in entries:
        path = folder / entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:
            left_out.add(f"cannot be read ({error.strerror})", path)
            continue
        if _is_skipped(entry.name) or entry.name.casefold() in _SYSTEM:
            left_out.add("hidden or left behind by a system or tool", path)
        elif is_folder:
            if deep:
                yield from _walk(path, left_out, deep, seen)
        elif not is_file:
            left_out.add("a link to nothing" if entry.is_symlink() else "neither file nor folder", path)
        elif path.suffix.lower() not in SUFFIXES:
            left_out.add(f"{path.suffix.lower() or 'no suffix, which'} is no image that is read here", path)
        else:
            yield path


@dataclass(frozen=True)
class Splits:
    """Folders of the parts of a data set, each with one folder a class; None where there is none."""

    root: Path
    train: Path | None = None
    val: Path | None = None
    test: Path | None = None


def unwrapped(folder: Path) -> Path:
    """The folder inside folders that hold nothing but one other: archives often unpack to those."""
    for _ in range(3):
        inside = sub_folders(folder)
        if len(inside) != 1 or images_below(folder, LeftOut(), deep=False) or not sub_folders(inside[0]):
            break
        if (split := split_of(inside[0].name)) is not None and split != split_of(folder.name):
            break
        folder = inside[0]
    return folder


def find_splits(data: str, left_out: LeftOut) -> Splits:
    """The splits of a folder, or of TRAIN_DIR::VAL_DIR, which are what the user says they are.

    Raises:
        UsageError: no folder, two folders for one split, or a split's name among class folders.
    """
    if BETWEEN in data:
        train, val = (Path(part).expanduser() if part else None for part in data.split(BETWEEN, 1))
        for option, folder in (("--train-dir", train), ("--val-dir", val)):
            if folder is not None and not folder.is_dir():
                raise UsageError(f"{option} {folder}: no such folder; expected one folder a class")
        if train is None:
            raise UsageError("--val-dir needs --data or --train-dir: there are no images to train on")
        parts = [folder.resolve() for folder in (train, val) if folder is not None]
        return Splits(Path(os.path.commonpath(parts)), parts[0], parts[1] if len(parts) > 1 else None)
    given = Path(data).expanduser()
    if not given.is_dir():
        raise UsageError(f"--data {data}: no such folder; expected train/ and val/, or one folder a class")
    root = unwrapped(given.resolve())
    children = sub_folders(root)
    named: dict[str, list[Path]] = {}
    for child in children:
        if (split := split_of(child.name)) is not None:
            named.setdefault(split, []).append(child)
    if not named:
        return Splits(root, root)
    others = [child for child in children if split_of(child.name) is None]
    parted = {split: [folder for folder in folders if sub_folders(folder)] for split, folders in named.items()}
    if not parted.get("train"):
        first = next(folder for folders in named.values() for folder in folders)
        if others or "train" in named:
            raise UsageError(
                f"--data {data}: the folder {first.name!r} carries the name of a split but lies among class folders or "
                f"holds none itself; if it is a class, say so with --train-dir {data}, else name the folders of the "
                "splits with --train-dir and --val-dir")
    found: dict[str, Path] = {}
    for split, folders in parted.items():
        if len(folders) > 1:
            raise UsageError(f"--data {data}: {folders[0].name}/ and {folders[1].name}/ both look like the split "
                             f"{split!r}; name the one that is meant with --{'val' if split == 'test' else split}-dir")
        if folders:
            found[split] = folders[0]
        else:
            left_out.add("a split's folder without class folders", named[split][0])
    for other in others:
        left_out.add("a folder beside the splits", other)
    return Splits(root, **found)


def train_folder(data: str) -> Path:
    """Where a folder's training images are, whatever else lies in it.

    Raises:
        UsageError: as find_splits, or it has none.
    """
    found = find_splits(data, LeftOut())
    if found.train is None:
        raise UsageError(f"--data {data}: it has no train/; name the training images with --train-dir")
    return found.train


def data_of(data: str | None, train: str | None, val: str | None) -> str | None:
    """The images that --data, --train-dir and --val-dir name together; None where none of them was given. Folders of
    splits may be named from --data on.

    Raises:
        UsageError: --val-dir without images to train on, or a split of a drawn task.
    """
    if train is None and val is None:
        return data
    if data in DRAWN:
        raise UsageError(f"--data {data}: it has no folders; leave --train-dir and --val-dir out")
    if train is None and data is None:
        raise UsageError("--val-dir: name the images to train on with --data or --train-dir")

    def of(part: str | None) -> str:
        if part is None:
            return ""
        inside = None if data is None else Path(data).expanduser() / part
        return str(inside if inside is not None and inside.is_dir() else part)

    return f"{of(train) if train is not None else train_folder(str(data))}{BETWEEN}{of(val)}"


def classes_in(folder: Path, left_out: LeftOut, *, checked: bool = True,
               without: Path | None = None) -> dict[str, list[Path]]:
    """Class name -> image files of a folder with one folder a class; classes without images are left out.

    Args:
        checked: refuse class folders that look like splits.
        without: a folder in it that is no class, such as the validation split.

    Raises:
        UsageError: a class folder is a split, or two have the same name but for the way it is written in Unicode.
    """
    found: dict[str, list[Path]] = {}
    inside = unwrapped(folder)
    for child in sub_folders(inside):
        if without is not None and child.resolve() == without:
            continue
        if checked and split_of(child.name) and sub_folders(child):
            raise UsageError(f"{child} carries the name of a split where a class is expected; name the folders of the "
                             "splits with --train-dir and --val-dir")
        name = unicodedata.normalize("NFC", child.name)
        if name in found:
            raise UsageError(f"{inside}: two folders are called {name!r}; rename one")
        if files := images_below(child, left_out):
            found[name] = files
        else:
            left_out.add(f"a class folder without {WORDS} images", child)
    for path in images_below(inside, LeftOut(), deep=False):
        left_out.add("outside of class folders", path)
    return found


def check_same_classes(train: Iterable[str], other: Iterable[str], where: Path) -> list[str]:
    """Classes of training that `where` has no images of.

    Raises:
        UsageError: `where` has a class that training lacks.
    """
    known, there = list(train), set(other)
    for name in sorted(there - set(known)):
        alike = next((one for one in known if one.casefold().strip() == name.casefold().strip()), None)
        raise UsageError(f"{where} has the class {name!r} that training lacks"
                         + (f", whose {alike!r} is written otherwise; rename one" if alike else
                            "; add images for training, or move that folder away"))
    return [name for name in known if name not in there]
