"""What a misspelt name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """Such as "; did you mean sa12?", to end a message with; empty when no known name is alike."""
    nearest = difflib.get_close_matches(name, list(known), n=count, cutoff=cutoff)
    return f"; did you mean {', '.join(nearest)}?" if nearest else ""
