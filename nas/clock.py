"""The time as files of the project record it."""

from __future__ import annotations

import datetime


def now() -> str:
    """UTC in ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
