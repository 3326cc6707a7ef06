"""What readers keep of a run's trials: a star and a note each, with the study, so that they travel with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.runs.run import Run

PREFIX = "mark:"  # of the study's attributes: one for each trial, so that two readers do not overwrite one another
MOST_LETTERS = 500


@dataclass(frozen=True)
class Mark:
    star: bool = False
    note: str = ""


NONE = Mark()


def read_marks(attrs: Mapping[str, Any]) -> dict[int, Mark]:
    """By trial, from a study's attributes; what cannot be a mark is left out."""
    found = {}
    for key, value in attrs.items():
        number = key.removeprefix(PREFIX)
        if key.startswith(PREFIX) and number.isdigit() and isinstance(value, dict):
            mark = Mark(value.get("star") is True, str(value.get("note") or "")[:MOST_LETTERS])
            if mark != NONE:
                found[int(number)] = mark
    return found


def write_mark(run: Run, trial: int, mark: Mark) -> None:
    """Keep the mark with the run; an empty one takes an earlier one back.

    Raises:
        ValueError: the note is too long.
    """
    if len(mark.note) > MOST_LETTERS:
        raise ValueError(f"a note of {len(mark.note)} letters: expected at most {MOST_LETTERS}")
    run.set_attr(f"{PREFIX}{trial}", asdict(mark))
