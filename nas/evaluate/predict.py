"""A variant's forms as functions, and their logits for a data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.pictures import UNREADABLE
from nas.errors import Failure, UsageError
from nas.export.formats import Artefact, Runner, format_named, require
from nas.export.variant import read_sheet


def runner(folder: Path, form: str, device: str = "cpu") -> Runner:
    """The folder's network in the form "fused", "unfused", or that of any format or file in it.

    Raises:
        UsageError: no such form in this folder.
        NotAvailable: it cannot be run here.
    """
    import torch

    from fastvit.fuse import reparameterize
    from nas.export import load
    from nas.export.parity import module_runner

    sheet = read_sheet(folder)
    if form in ("fused", "unfused"):
        model = load(folder)
        return module_runner((reparameterize(model) if form == "fused" else model).to(torch.device(device)))
    for name, artefacts in sheet["formats"].items():
        for artefact in artefacts:
            if form in (name, artefact["file"]):
                require(name)
                return format_named(name).load(folder, Artefact.from_dict(artefact))
    there = ", ".join(a["file"] for artefacts in sheet["formats"].values() for a in artefacts)
    raise UsageError(f"--forms {form}: {folder} has no such format; it has fused, unfused, {there}")


def predict(run: Runner, loader: Iterable[Any], words: str = "") -> tuple[np.ndarray, np.ndarray, int]:
    """Logits (N, C) and labels (N,) of the readable images, and how many were not.

    Raises:
        Failure: no image can be read.
    """
    from tqdm import tqdm

    logits, labels, unread = [], [], 0
    for images, given in tqdm(loader, desc=words, file=sys.stderr, disable=None, leave=False):
        kept = (given != UNREADABLE).numpy()
        unread += int((~kept).sum())
        if kept.any():
            logits.append(run(images.numpy()[kept]))
            labels.append(given.numpy()[kept])
    if not logits:
        raise Failure("no image of the data can be read; expected JPEG, PNG or WebP files")
    return np.concatenate(logits), np.concatenate(labels).astype(np.int64), unread


def restricted(run: Callable[[np.ndarray], np.ndarray], columns: np.ndarray) -> Runner:
    """`run` with only some of its logits, in the order of `columns`."""
    return lambda images: run(images)[:, columns]
