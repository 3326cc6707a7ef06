"""The front document with a decision in it: the recommendation, and each point beside a preset."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nas.report.documents import front_document
from nas.report.recommendation import LARGEST, Limits, delta, recommend, reference
from nas.runs.marks import NONE, read_marks
from nas.runs.run import Run
from nas.search.confirmed import search_trials
from nas.search.feasibility import within_limits


def decided_front(run: Run, budget_ms: float | None = None, limits: Limits | None = None, against: str = LARGEST
                  ) -> dict[str, Any]:
    """The contract's front document of the points that meet the limits, with "recommendation" (None without a point),
    and for each point its "delta" to a preset, whether it is "tied", its "star" and "note"."""
    limits = limits or Limits()
    resolution, classes = run.meta.resolution, run.meta.num_classes
    # A preset may be beyond the limits that the run was given: it stands beside the front and not on it.
    front = front_document(run, budget_ms, lambda record: limits.meets(record, resolution, classes)
                           and within_limits(run.meta, record))
    records = [record for record in search_trials(run) if within_limits(run.meta, record)]
    found = recommend(records, front["budget_ms"], resolution=resolution, num_classes=classes, limits=limits,
                      against=against)
    tied = set() if found is None else {record.trial for record in found.tied}
    by_trial, marks = {record.trial: record for record in records}, read_marks(run.attrs()) if records else {}
    for point in front["points"]:
        record = by_trial[point["trial"]]
        base = reference(records, front["budget_ms"], record, against)
        mark = marks.get(record.trial, NONE)
        point |= {"delta": None if base is None or base is record else asdict(delta(record, base)),
                  "tied": record.trial in tied, "star": mark.star, "note": mark.note}
    return front | {"recommendation": None if found is None else found.document(), "against": against}
