"""What is said of a run in JSON: the documents of `status` and `front`, and its trials as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nas.estimate.imagenet import estimated_top1
from nas.estimate.long_run import estimated_long_run
from nas.report.apart import told_apart
from nas.runs.run import Outcome, Run, Trial
from nas.runs.whole import missing
from nas.search.confirmed import search_trials
from nas.search.feasibility import limits_words
from nas.search.front import estimated_front, fell_off, front_of, front_volume, movement

if TYPE_CHECKING:
    import pandas as pd


def trial_frame(run: Run) -> pd.DataFrame:
    """One row a trial: the columns of Trial.row()."""
    import pandas as pd

    rows = [record.row() for record in search_trials(run)]
    return pd.DataFrame(rows, columns=list(Trial(trial=0).row()))


def status_document(run: Run) -> dict[str, Any]:
    """The contract's status document."""
    counts = Counter(record.outcome for record in search_trials(run))
    every, state = run.trials(), run.state()
    reasons = Counter(record.reason or "unknown" for record in every if record.outcome == Outcome.FAILED)
    return {"run": str(run.path), "state": str(state),
            "trials": {outcome.value: counts.get(outcome, 0) for outcome in Outcome},
            "failures": dict(reasons.most_common()),
            "missing": missing(run, state, len(every), sum(r.outcome == Outcome.RUNNING for r in every)),
            "elapsed_s": run.progress.elapsed_s}


def front_document(run: Run, budget_ms: float | None = None, meets: Callable[[Trial], bool] = lambda trial: True,
                   ) -> dict[str, Any]:
    """The contract's front document: complete trials under the budget that none dominates, and the anchors.

    Args:
        meets: what a point must meet besides the budget.
    """
    budget = budget_ms or run.meta.budget_ms
    records = search_trials(run)
    front = front_of([record for record in records if meets(record)], budget)
    anchors = {r.preset or r.anchor: r for r in records if (r.preset or r.anchor) and r.latency is not None}
    points = [r.point() | {"preset": r.preset} for r in front]
    shown = [r.point() | {"preset": name} for name, r in anchors.items()]
    ours = [(r, point) for r, point in zip([*front, *anchors.values()], [*points, *shown], strict=True) if r.config]
    if ours:
        configs = [r.architecture for r, _ in ours]
        long_runs = estimated_long_run(configs, [r.z_score for r, _ in ours])
        for (_, point), top1, long_run in zip(ours, estimated_top1(configs), long_runs, strict=True):
            point["estimated_imagenet_top1"] = [round(value, 2) for value in top1]
            point["estimated_long_run"] = [round(value, 3) for value in long_run]
    return {
        "run": str(run.path), "device": run.meta.device, "origin": run.meta.origin,
        "precision": run.meta.precision, "limits": limits_words(run.meta),
        "resolution": run.meta.resolution, "budget_ms": budget, "task": run.meta.task,
        "budgets": [b for b in run.meta.budgets if b <= budget],
        "hypervolume": front_volume(front, budget), "unit": points[0]["unit"] if points else None,
        "estimated": [r.point() | {"preset": r.preset} for r in estimated_front(records, budget) if meets(r)]
        if any(r.trained for r in front) else [],
        "points": points, "anchors": shown, "movement": movement(records, budget),
        "told_apart": told_apart(run.meta, records, front),
        "fell_off": [r.point() for r in fell_off(records, budget)],
    }
