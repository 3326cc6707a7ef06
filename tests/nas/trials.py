"""Trials and runs for tests that need some."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from fastvit.config import FastViTConfig
from nas.runs.measurement import Measurement, Origin
from nas.runs.meta import RunMeta, SpaceSource, read_run
from nas.runs.run import Run
from nas.runs.trial import Outcome, Rung, Trial
from space import SearchSpace


def measured(ms: float, *, half_width: float = 0.0, origin: Origin = Origin.MEASURED) -> Measurement:
    """A latency whose interval reaches `half_width`, a share of it, to both sides."""
    return Measurement("", "", "a device", origin, 64, ms, (1 - half_width) * ms, (1 + half_width) * ms)


def scored(number: int, config: FastViTConfig, ms: float, *rungs: Rung, outcome: Outcome = Outcome.COMPLETE,
           half_width: float = 0.0, **more: Any) -> Trial:
    """A trial with these rungs; the last one's score is its own."""
    known: dict[str, Any] = {"score": rungs[-1].score, "score_sd": rungs[-1].score_sd} if rungs else {}
    return Trial(number, outcome, config=config, latency=measured(ms, half_width=half_width), scores=rungs,
                 **known | more)


def meta(**more: Any) -> RunMeta:
    space = SearchSpace.load("default")
    return RunMeta(**{"id": "run", "budget_ms": 2.0, "device": "a device", "resolution": 64, "task": "of-a-folder",
                      "task_fingerprint": "of-a-folder", "space": SpaceSource(space.name, space.source),
                      "steps": 120} | more)


def rewritten(run: Run, **changes: Any) -> Run:
    """The run after somebody changed its run.json by hand; damaged values are written as they are."""
    path = run.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return run


def with_meta(run: Run, **changes: Any) -> Run:
    run.meta = replace(run.meta, **changes)
    run.save()
    read_run(json.loads((run.path / "run.json").read_text()), run.path)
    return run
