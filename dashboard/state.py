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

from dashboard.what_if import FIELDS
from fastvit.presets import PRESETS
from nas.runs.run import Outcome, RunMeta

# Environment variables through which `search.py dashboard` says what to open.
ROOT, RUN = "FASTVIT_EXPLORER_ROOT", "FASTVIT_EXPLORER_RUN"

PAGES = ("front", "configuration", "compare", "space", "trials", "export")
X_AXES = {"latency_ms": "measured latency (ms)", "phone_ms": "iPhone 12 Pro latency at 256 px, predicted (ms)",
          "params_m": "parameters (M)", "gmacs": "GMACs"}
Y_AXES = {"score": "proxy score", "top1": "ImageNet top-1, estimated from size (%)",
          "long_run": "score of a long run, estimated"}
EXTRAS = {"over_budget": "over the budget", "stopped_early": "stopped early", "failed": "failed",
          "published": "published networks"}
TARGETS = {"score": "a high score", "equal": "a high score at equal latency", "latency": "a low latency"}
OVER = {"trial": "trials", "minutes": "minutes since the run began"}
# Name in an address and in nas.report.recommendation.Limits: label, step.
LIMITS = {"least_score": ("Score at least", 0.01), "most_params_m": ("Parameters at most (M)", 0.5),
          "most_size_mb": ("Weights at most (MB)", 1.0), "most_memory_mb": ("Memory at most (MB), estimated", 1.0),
          "most_iphone_ms": ("iPhone 12 Pro at most (ms), predicted at 256 px", 0.1)}
MAX_COMPARED, MAX_RUNS, MAX_TEXT, MOST_MS, MAX_CHANGES = 4, 5, 80, 1e6, 40
_CHANGE = re.compile(rf"({'|'.join(FIELDS)})[1-4]:[a-z0-9.]{{1,12}}")
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

    page: str = "front"
    runs: tuple[str, ...] = ()
    pick: Ref | None = None
    budget_ms: float | None = None
    x: str = "latency_ms"
    y: str = "score"
    log: bool = True
    show: tuple[str, ...] = ()
    compare: tuple[Ref, ...] = ()
    over: str = "trial"
    states: tuple[str, ...] = ()
    find: str = ""
    target: str = "score"
    choice: str = ""
    window: tuple[float, float, float, float] | None = None  # of the front: x from, to; y from, to
    gone: tuple[str, ...] = ()  # runs that the address names and that are not there
    against: str = "largest"  # the preset that a choice stands beside (nas.report.recommendation.reference)
    limits: tuple[tuple[str, float], ...] = ()  # what a choice has to meet beside the budget, by names of LIMITS
    change: tuple[str, ...] = ()  # What if: entries that differ from the chosen configuration, as FIELD1:VALUE

    def replace(self, **changes: Any) -> View:
        return dataclasses.replace(self, **changes)

    def limit(self, name: str) -> float | None:
        return dict(self.limits).get(name)

    def limited(self, name: str, value: float | None) -> tuple[tuple[str, float], ...]:
        """The limits with one of them set, or taken away."""
        values = dict(self.limits) | {name: value}
        return tuple((key, limit) for key in LIMITS if (limit := values.get(key)) is not None)

    def to_query(self) -> dict[str, str | list[str]]:
        """Query parameters; what is as by default is left out."""
        query: dict[str, str | list[str]] = {}
        if self.page != View.page:
            query["page"] = self.page
        if named := [*self.runs, *self.gone]:
            query["run"] = named
        if self.pick:
            query["pick"] = str(self.pick)
        if self.budget_ms is not None:
            query["budget"] = f"{self.budget_ms:g}"
        for name in ("x", "y", "over", "find", "target", "choice", "against"):
            if getattr(self, name) != getattr(View, name):
                query[name] = getattr(self, name)
        if not self.log:
            query["log"] = "0"
        if self.window:
            query["window"] = ",".join(f"{value:.6g}" for value in self.window)
        for name, value in self.limits:
            query[name] = f"{value:g}"
        for name in ("show", "states", "change"):
            if getattr(self, name):
                query[name] = list(getattr(self, name))
        if self.compare:
            query["compare"] = [str(ref) for ref in self.compare]
        return query


def from_query(query: Mapping[str, Sequence[str]], runs: Iterable[str]) -> View:
    """The view that query parameters (each a list of values) describe, as far as they are valid.

    `runs` are the names that exist. Any other name is kept apart, in `gone`, so that a page can say so.
    """
    known = set(runs)

    def last(name: str) -> str:
        values = query.get(name) or [""]
        return values[-1]

    def refs(name: str) -> tuple[Ref, ...]:
        found = [ref for text in query.get(name, ()) if (ref := Ref.parse(text)) and (not ref.run or ref.run in known)]
        return tuple(dict.fromkeys(found))

    def some(name: str, allowed: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for value in query.get(name, ()) if value in allowed))

    def one(name: str, allowed: Iterable[str]) -> str:
        return last(name) if last(name) in allowed else getattr(View, name)

    pick = refs("pick")
    return View(
        page=one("page", PAGES),
        runs=some("run", known),
        gone=tuple(dict.fromkeys(name for name in query.get("run", ())
                                 if name not in known and _RUN_NAME.fullmatch(name)))[:MAX_RUNS],
        pick=pick[-1] if pick else None,
        budget_ms=_positive(last("budget")),
        x=one("x", X_AXES),
        y=one("y", Y_AXES),
        log=last("log") != "0",
        show=some("show", EXTRAS),
        compare=refs("compare")[:MAX_COMPARED],
        over=one("over", OVER),
        states=some("states", tuple(one.value for one in Outcome)),
        find=last("find")[:MAX_TEXT],
        target=one("target", TARGETS),
        choice=last("choice") if re.fullmatch(r"[a-z_]{1,30}[1-9]", last("choice")) else "",
        window=_window(last("window")),
        against=one("against", ("largest", "nearest", *PRESETS)),
        limits=tuple((name, value) for name in LIMITS if (value := _positive(last(name))) is not None),
        change=tuple(text for text in query.get("change", ()) if _CHANGE.fullmatch(text))[:MAX_CHANGES])


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 < value < MOST_MS else None


def _window(text: str) -> tuple[float, float, float, float] | None:
    try:
        x0, x1, y0, y1 = (float(value) for value in text.split(","))
    except ValueError:
        return None
    fits = all(math.isfinite(value) and abs(value) < 1e6 for value in (x0, x1, y0, y1))
    return (x0, x1, y0, y1) if fits and 0 < x0 < x1 and y0 < y1 else None


def find_runs(root: Path) -> dict[str, Path]:
    """The runs directly below `root`, by name, the newest first. Links that lead out of it are left out."""
    try:
        root = root.resolve(strict=True)
        folders = [path for path in root.iterdir() if (path / "run.json").is_file()]
    except OSError:
        return {}
    kept = [path for path in folders if path.resolve().parent == root and not path.name.startswith(".")
            and all((path / name).resolve().parent == path.resolve() for name in ("run.json", "journal.log"))]
    return {path.name: path for path in sorted(kept, key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)}


def inside(root: Path, *parts: str) -> Path:
    """The path below `root` that `parts` name.

    Raises:
        ValueError: it would be outside of `root`.
    """
    path = root.joinpath(*parts).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"{'/'.join(parts)!r} is not below {root}")
    return path


def why_not_together(metas: Mapping[str, RunMeta]) -> str | None:
    """Why runs cannot share one chart, in a sentence; None when they can."""
    first, *others = metas.items()
    for name, meta in others:
        for key, word in (("device", "device"), ("resolution", "resolution"), ("task_fingerprint", "task"),
                          ("steps", "training steps"), ("origin", "origin of latency")):
            one, other = getattr(first[1], key), getattr(meta, key)
            if one != other:
                return (f"{name} cannot share axes with {first[0]}: its {word} is {other}, not {one}. "
                        "Latencies and scores compare only on the same device, resolution, task and training steps.")
    return None
