"""What others published about FastViT and its peers: one reader of published.csv. Needs neither torch nor pandas."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """One published network on one device. None: the source does not say.

    `params_m` in millions, `gmacs` of one image at `resolution` pixels a side, `top1` on ImageNet-1k in percent (with a
    teacher where `distilled`), `latency_ms` of a batch of `batch` images.
    """

    model: str
    params_m: float | None
    gmacs: float | None
    resolution: int | None
    top1: float | None
    distilled: bool
    latency_ms: float | None
    device: str
    runtime: str
    batch: int
    source: str
    note: str


@cache
def published() -> tuple[Published, ...]:
    """Every row of published.csv, in its order."""
    def number(text: str) -> float | None:
        return float(text) if text else None

    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Published(
            model=row["model"], params_m=number(row["params_m"]), gmacs=number(row["gmacs"]),
            resolution=int(row["resolution"]) if row["resolution"] else None, top1=number(row["top1"]),
            distilled=row["distilled"] == "True", latency_ms=number(row["latency_ms"]), device=row["device"],
            runtime=row["runtime"], batch=int(row["batch"]) if row["batch"] else 1, source=row["source"],
            note=row["note"]) for row in csv.DictReader(file))
