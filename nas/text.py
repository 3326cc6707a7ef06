"""Text from elsewhere, made harmless for what shows it: one filter for terminals, one for spreadsheets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Escape sequences begin with a control character; the marks of direction can turn a line around.
_ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: str) -> str:
    """The text with a visible sign in place of every character that a terminal would act on, but ends of lines."""
    return _ACTS.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\N{REPLACEMENT CHARACTER}",
                     text)


def cell(value: object) -> object:
    """A cell of a CSV that a spreadsheet takes for data: text that would begin a formula there begins with an
    apostrophe."""
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value


def csv(frame: pd.DataFrame) -> str:
    """The frame as CSV, every text a `cell`."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == object or str(safe[name].dtype) in ("str", "string"):
            safe[name] = safe[name].map(cell)
    return str(safe.to_csv(index=False))
