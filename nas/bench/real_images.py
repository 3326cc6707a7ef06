"""Reads the rows of full-width networks on real images that ship (docs/fastvit-bench.md). Needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastvit.config import FastViTConfig

SCHEMA = 1
TABLE = Path(__file__).with_name("real_images.jsonl")


@dataclass(frozen=True)
class TruthRow:
    """Top-1 in percent of one full-width network after `steps` steps from random weights; `se` is its sampling error on
    the test images. `images` were trained on, at `px` pixels."""

    task: str
    config: FastViTConfig
    px: int
    steps: int
    recipe: str
    seed: int
    top1: float
    se: float
    images: int
    classes: int
    preset: str | None = None
    cpu_seconds: float | None = None

    @property
    def protocol(self) -> str:
        """Rows of one protocol share a level: same images, pixels, steps and recipe. The data set stands before "/"."""
        return f"{self.task}/{self.images}-{self.px}px-{self.steps}-{self.recipe}"


@lru_cache(maxsize=4)
def truth_rows(table: Path = TABLE) -> tuple[TruthRow, ...]:
    """All rows; a last line that a crash cut is left out."""
    rows = []
    for line in table.read_text(encoding="utf-8").splitlines() if table.exists() else []:
        try:
            found: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        if found["schema"] == SCHEMA:
            own: dict[str, Any] = {key: found.get(key) for key in TruthRow.__dataclass_fields__}
            rows.append(TruthRow(**own | {"config": FastViTConfig.from_dict(found["config"])}))
    return tuple(rows)
