"""What the dashboard shows, as a value: URL query parameters in and out, and the runs below a root.

Pure functions and frozen data. Whatever a URL says is checked here: a name that is no run below the root,
an unknown axis or a broken number is dropped, never followed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvit.presets import PRESETS

# Environment variables through which `search.py dashboard` says what to open.
ROOT, RUN = "FASTVIT_EXPLORER_ROOT", "FASTVIT_EXPLORER_RUN"

X_AXES = {"latency_ms": "measured latency (ms)", "phone_ms": "predicted iPhone 12 Pro latency (ms)",
          "params_m": "parameters (M)", "gmacs": "GMACs"}
Y_AXES = {"score": "proxy score"}
EXTRAS = {"over_budget": "over the budget", "stopped_early": "stopped early", "failed": "failed",
          "published": "published networks"}
MAX_COMPARED = 4
_RUN_NAME = re.compile(r"[^/\\\x00]{1,200}")


@dataclass(frozen=True)
class Ref:
    """One configuration to look at: a trial of a run, or a preset (run is then empty)."""

    run: str
    name: str  # a trial's number, or a preset's name

    @property
    def trial(self) -> int | None:
        return int(self.name) if self.run else None

    def __str__(self) -> str:
        return f"{self.run}:{self.name}" if self.run else self.name

    @classmethod
    def parse(cls, text: str) -> Ref | None:
        """`RUN:12` or `t8`; None for anything else."""
        if text in PRESETS:
            return cls("", text)
        run, colon, number = text.rpartition(":")
        if colon and re.fullmatch(r"[0-9]{1,9}", number) and _RUN_NAME.fullmatch(run) and not run.startswith("."):
            return cls(run, str(int(number)))
        return None


@dataclass(frozen=True)
class View:
    """Everything that a shared link restores."""

    runs: tuple[str, ...] = ()
    pick: Ref | None = None
    budget_ms: float | None = None
    x: str = "latency_ms"
    y: str = "score"
    log: bool = True
    show: tuple[str, ...] = ()
    compare: tuple[Ref, ...] = ()

    def replace(self, **changes: Any) -> View:
        return dataclasses.replace(self, **changes)

    def to_query(self) -> dict[str, str | list[str]]:
        """Query parameters; what is as by default is left out."""
        query: dict[str, str | list[str]] = {}
        if self.runs:
            query["run"] = list(self.runs)
        if self.pick:
            query["pick"] = str(self.pick)
        if self.budget_ms is not None:
            query["budget"] = f"{self.budget_ms:g}"
        for name in ("x", "y"):
            if getattr(self, name) != getattr(View(), name):
                query[name] = getattr(self, name)
        if not self.log:
            query["log"] = "0"
        if self.show:
            query["show"] = list(self.show)
        if self.compare:
            query["compare"] = [str(ref) for ref in self.compare]
        return query


def from_query(query: Mapping[str, Sequence[str]], runs: Iterable[str]) -> View:
    """The view that query parameters (each a list of values) describe, as far as they are valid.

    `runs` are the names that exist; any other name is dropped.
    """
    known = set(runs)

    def last(name: str) -> str:
        values = query.get(name) or [""]
        return values[-1]

    def refs(name: str) -> tuple[Ref, ...]:
        found = [ref for text in query.get(name, ()) if (ref := Ref.parse(text)) and (not ref.run or ref.run in known)]
        return tuple(dict.fromkeys(found))

    pick = refs("pick")
    return View(
        runs=tuple(dict.fromkeys(name for name in query.get("run", ()) if name in known)),
        pick=pick[-1] if pick else None,
        budget_ms=_positive(last("budget")),
        x=last("x") if last("x") in X_AXES else View.x,
        y=last("y") if last("y") in Y_AXES else View.y,
        log=last("log") != "0",
        show=tuple(dict.fromkeys(name for name in query.get("show", ()) if name in EXTRAS)),
        compare=refs("compare")[:MAX_COMPARED])


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 < value < 1e6 else None


def find_runs(root: Path) -> dict[str, Path]:
    """The runs directly below `root`, by name, the newest first. Links that lead out of it are left out."""
    try:
        root = root.resolve(strict=True)
        folders = [path for path in root.iterdir() if (path / "run.json").is_file()]
    except OSError:
        return {}
    inside = [path for path in folders if path.resolve().parent == root and not path.name.startswith(".")]
    return {path.name: path for path in sorted(inside, key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)}


def inside(root: Path, *parts: str) -> Path:
    """The path below `root` that `parts` name.

    Raises:
        ValueError: it would be outside of `root`.
    """
    path = root.joinpath(*parts).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"{'/'.join(parts)!r} is not below {root}")
    return path


def why_not_together(metas: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why runs cannot share one chart, in a sentence; None when they can."""
    first, *others = metas.items()
    for name, meta in others:
        for key, word in (("device", "device"), ("resolution", "resolution"), ("task_fingerprint", "task"),
                          ("steps", "training steps"), ("origin", "origin of latency")):
            one, other = first[1].get(key), meta.get(key)
            if one != other:
                return (f"{name} cannot share axes with {first[0]}: its {word} is {other}, not {one}. "
                        "Latencies and scores compare only on the same device, resolution, task and training steps.")
    return None
