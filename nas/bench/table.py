"""The table: which configurations are in it, how rows are added and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.proxy.recipe import RECIPE
from space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 4  # rows of 1 to 3 were trained by other recipes, or on tasks of other names
TABLE = Path(__file__).with_name("fastvit_bench.jsonl")
# GMACs at 64 px between which a configuration is drawn: from a sixth of T8's to SA12's, equal steps in the logarithm.
EDGES = tuple(np.geomspace(0.007, 0.12, 6))


def bench_configs(count: int, *, space: str = "default", seed: int = 0) -> list[FastViTConfig]:
    """The first `count` configurations of the benchmark, one size bin after the other; a longer list of the
    same seed begins with the shorter one."""
    found: list[FastViTConfig] = []
    loaded, rng, keys = SearchSpace.load(space), np.random.default_rng(seed), set()
    while len(found) < count:
        low, high = EDGES[len(found) % 5], EDGES[len(found) % 5 + 1]
        config = loaded.sample(rng)
        if low <= cost(config, 64).gmacs < high and config.key() not in keys:
            found.append(config)
            keys.add(config.key())
    return found


def append_row(row: dict[str, Any], table: Path = TABLE) -> None:
    """Add one row; several processes may add at once."""
    with FileLock(f"{table}.lock"), table.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"schema": SCHEMA} | row) + "\n")


def read_rows(table: Path = TABLE) -> list[dict[str, Any]]:
    """All rows; a last line that a crash cut is left out."""
    rows = []
    for line in table.read_text(encoding="utf-8").splitlines() if table.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def lean_rows(recipe: int) -> list[dict[str, Any]]:
    """Rows of lean proxies by one recipe: those of another one do not stand beside them."""
    return [row for row in read_rows() if row["recipe"] == recipe and not row["branches"]]


def rows_of(task_fingerprint: str) -> list[dict[str, Any]]:
    """Rows by today's recipe of exactly these images."""
    return [row for row in lean_rows(RECIPE) if row["task_fingerprint"] == task_fingerprint]


def shipped_scores(task_fingerprint: str, seed: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Rows for exactly these images and this seed, by configuration key and step: the presets are among them, so that
    a run spends its minutes on what is new."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows_of(task_fingerprint):
        if row["seed"] == seed:
            found.setdefault(row["key"], {})[row["steps"]] = row
    return found


def read_bench(table: Path = TABLE) -> pd.DataFrame:
    """One row for each configuration, task, form, seed and number of steps; `parts` as columns "part ..."."""
    import pandas as pd

    rows = [{key: value for key, value in row.items() if key != "parts"}
            | {f"part {name}": value for name, value in row["parts"].items()} for row in read_rows(table)]
    return pd.DataFrame(rows)
