"""One evaluation: a variant's folder, images, and the forms of the network that are to be compared on them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from nas.data import DRAWN
from nas.data.pictures import Pictures, eval_loader, open_images
from nas.errors import NotAvailable, UsageError
from nas.evaluate.metrics import confusion, most_confused, per_class, summary
from nas.evaluate.predict import predict, restricted, runner
from nas.evaluate.robust import (
    CORRUPTIONS,
    SEVERITIES,
    Corrupt,
    check_corruptions,
    columns_for,
    corrupted_folders,
    results,
)
from nas.export.formats import Runner
from nas.export.variant import MEAN, STD, read_sheet
from nas.recipe import Recipe, recipe_for


def labelled(folder: Path, split: str | None = None) -> tuple[tuple[str, ...], Pictures, tuple[str, ...]]:
    """Class names and images of a folder's test/, else val/, else of the folder with one folder a class; and lines
    for the user on which images these are.

    Raises:
        UsageError: no images in class folders, or no such split.
    """
    from nas.data.folder import held_out

    names, files, values, lines = held_out(str(folder), split)
    return names, Pictures(files, values=values), lines


def _recipe(folder: Path, data: str, resolution: int) -> Recipe:
    """How images are prepared: as the variant was trained, or the data's own way."""
    import yaml

    base = recipe_for(data if data in DRAWN else "folder", 1_000_000, {"resolution": resolution})
    try:
        there = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        return base.replace(crop_pct=float(there["crop_pct"]), interpolation=str(there["interpolation"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return base


class _Some(Pictures):
    """The first `limit` of the images, which hold the classes in proportion."""

    def __init__(self, whole: Pictures, limit: int) -> None:
        self.whole, self.limit, self.ready = whole, limit, whole.ready

    def __len__(self) -> int:
        return min(len(self.whole), self.limit)

    def get(self, index: int) -> Any:
        return self.whole.get(index)


def evaluate(folder: Path, data: str, forms: list[str], *, resolution: int | None = None, corrupt: str | None = None,
             limit: int | None = None, batch: int = 64, workers: int = 0, device: str | None = None,
             split: str | None = None) -> dict[str, Any]:
    """Figures of each form on the images of `data`, and the confusion of the first.

    Args:
        split: "train", "val" or "test"; None is the folder's test/, else its val/, else the folder itself.

    Raises:
        UsageError: the folder is no variant, the data has no images or other classes, or a form is not there.
        Failure: no image can be read.
    """
    import torch

    sheet = read_sheet(folder)
    side = resolution or sheet["resolution"]
    if side != sheet["resolution"] and (other := [form for form in forms if form not in ("fused", "unfused")]):
        raise UsageError(f"--resolution {side}: {other[0]} was exported for {sheet['resolution']} px")
    names_wanted = list(CORRUPTIONS) if corrupt == "all" else [] if corrupt is None else corrupt.split(",")
    if names_wanted:
        check_corruptions(names_wanted)
    tree = {} if data in DRAWN else corrupted_folders(Path(data))
    recipe = _recipe(folder, data, side)
    said: tuple[str, ...] = ()
    if data in DRAWN:
        images = open_images(data, side, recipe.seed)
        names, pictures = images.class_names, images.val
    else:
        names, pictures, said = labelled(next(iter(tree.values()))[1] if tree else Path(data), split)
    columns, note = columns_for(sheet.get("class_names", ()), sheet["num_classes"], names)
    mean, std = sheet.get("mean", MEAN), sheet.get("std", STD)

    def logits_of(run: Runner, held: Pictures, words: str, change: Any = None) -> tuple[np.ndarray, np.ndarray, int]:
        if limit is not None:
            held = _Some(held, limit)
        return predict(restricted(run, columns), eval_loader(held, recipe, mean, std, batch=batch, workers=workers,
                                                             change=change), words)

    found: dict[str, Any] = {"variant": sheet["name"], "data": data, "resolution": side, "note": note,
                             "data_notes": list(said), "forms": {}}
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    for form in dict.fromkeys(forms):
        try:
            run = runner(folder, form, device)
        except NotAvailable as error:
            found["forms"][form] = {"not_run": str(error)}
            continue
        values: dict[str, Any] = {}
        if not tree:
            logits, labels, unread = logits_of(run, pictures, form)
            values = summary(logits, labels) | ({"unreadable": unread} if unread else {})
            if "confusion" not in found:
                counts = confusion(logits, labels)
                found |= {"classes": list(names), "confusion": counts.tolist(),
                          "per_class": dict(zip(names, per_class(counts), strict=True)),
                          "most_confused": most_confused(counts, names)}
        errors: dict[str, list[float]] = {}
        for name, levels in tree.items():
            errors[name] = [_error(*logits_of(run, labelled(path)[1], f"{form} {name} {level}")[:2])
                            for level, path in levels.items()]
        for name in names_wanted:
            errors[name] = [_error(*logits_of(run, pictures, f"{form} {name} {level}", Corrupt(name, level, side))[:2])
                            for level in SEVERITIES]
        if errors:
            # AlexNet's errors hold for the published images and all of their classes and corruptions.
            whole = bool(tree) and len(names) == 1000 and set(errors) == set(CORRUPTIONS)
            values |= results(errors, normalised=whole)
        found["forms"][form] = values
    return found


def _error(logits: np.ndarray, labels: np.ndarray) -> float:
    return 1 - summary(logits, labels)["top1"] / 100


def write_confusion(path: Path, found: dict[str, Any]) -> None:
    """The confusion matrix as CSV: a row for each true class.

    Raises:
        UsageError: there is none (ImageNet-C), or the file cannot be written.
    """
    if "confusion" not in found:
        raise UsageError("--confusion: a tree of corruptions has no single confusion matrix")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true \\ predicted", *found["classes"]])
    writer.writerows([name, *row] for name, row in zip(found["classes"], found["confusion"], strict=True))
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--confusion {path}: cannot be written ({error.strerror})") from None
