"""Tables of trials: what is shown of them, why some failed, and how they leave the dashboard."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.text import csv

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*(?:e[+-]?\d+)?")


def filtered(frame: pd.DataFrame, states: Sequence[str], text: str) -> pd.DataFrame:
    """Rows of one of the states (of any when none is named) whose words hold every word of `text`.

    A number alone also finds the trial of that number.
    """
    if states:
        frame = frame[frame.outcome.isin(states)]
    if words := text.lower().split():
        haystack = (frame[["words", "reason", "preset", "anchor", "outcome", "config_key", "worker"]]
                    .fillna("").astype(str).agg(" ".join, axis=1).str.lower())
        keep = frame.trial.astype(str).eq(text.strip())
        found = keep | haystack.map(lambda line: all(word in line for word in words))
        frame = frame[found]
    return frame


def reasons(frame: pd.DataFrame) -> pd.DataFrame:
    """Why trials did not complete, alike reasons counted together: columns outcome, reason, trials, example."""
    import pandas as pd

    kept = frame[frame.reason.notna() & frame.outcome.ne("complete")]
    if not len(kept):
        return pd.DataFrame(columns=["outcome", "reason", "trials", "example"])
    alike = kept.assign(reason=[_NUMBERS.sub("…", str(reason))[:200] for reason in kept.reason])
    found = alike.groupby(["outcome", "reason"], as_index=False).agg(trials=("trial", "size"), example=("trial", "max"))
    return found.sort_values("trials", ascending=False, ignore_index=True)


def to_csv(frame: pd.DataFrame) -> bytes:
    """CSV that a spreadsheet reads as data: text that would begin a formula there begins with an apostrophe."""
    return csv(frame).encode()


def to_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
