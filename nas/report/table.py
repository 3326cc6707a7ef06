"""All trials of a run as one table: what Trial.row() shows, and what it leaves out as columns of JSON."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from nas.files import write_atomic
from nas.text import csv

if TYPE_CHECKING:
    import pandas as pd

    from nas.runs.run import Run

RUN_COLUMNS = ("device", "resolution", "budget_ms", "task", "task_fingerprint")  # the same in every row
JSON_COLUMNS = ("latency", "scores", "parts", "cost_s", "params")


def table(run: Run) -> pd.DataFrame:
    """One row a trial, those that confirm others and those that were retried among them.

    A table travels without its run, so every row says on which device, resolution and task its numbers were found.
    """
    import pandas as pd

    from nas.runs.marks import NONE, read_marks
    from nas.runs.trial import Trial, json_column

    rows, every = [], run.trials()
    marks = read_marks(run.attrs()) if every else {}
    for record in every:
        row = record.row() | {"run": run.meta.id} | {key: getattr(run.meta, key) for key in RUN_COLUMNS}
        row |= {"confirms": record.confirms, "seed": record.seed, "reused_from": record.reused_from,
                "retried": record.retried, "score_origin": record.score_origin}
        mark = marks.get(record.trial, NONE)
        row |= {"star": mark.star, "note": mark.note}
        row |= {f"{name}_json": json_column(record, name) for name in JSON_COLUMNS}
        rows.append(row)
    frame = pd.DataFrame(rows, columns=None if rows else list(Trial(trial=0).row()))
    for name in ("confirms", "seed", "reused_from", "steps"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    return frame


def write_table(run: Run, target: Path) -> int:
    """Write the trials of `run` as CSV or Parquet, by the suffix; how many.

    Raises:
        OSError: the file cannot be written.
    """
    frame = table(run)
    if target.suffix.lower() == ".parquet":
        content = io.BytesIO()
        frame.to_parquet(content, index=False)
        write_atomic(target, content.getvalue())
    else:
        write_atomic(target, csv(frame))
    return len(frame)
