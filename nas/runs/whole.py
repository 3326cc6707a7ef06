"""Whether a run's journal still holds what the run wrote: a journal that is gone, cut or emptied must not read as a run
that finished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.runs.folder import open_file
from nas.runs.meta import RunState

if TYPE_CHECKING:
    from nas.runs.run import Run


def missing(run: Run, state: RunState, trials: int, unfinished: int) -> str | None:
    """What is lost of a run that keeps its trials in a journal, in a sentence; None when nothing is.

    Args:
        state: of the run, as Run.state() says.
        trials: in the journal, those that confirm others included.
        unfinished: how many of them have begun and not ended.
    """
    if state == RunState.RUNNING or run.meta.shared:
        return None
    journal, counted = run.journal, run.progress.trials_told or 0
    if not journal.exists() or not journal.stat().st_size:
        if not counted and not run.progress.elapsed_s:
            return None  # it never began
        what = "is empty" if journal.exists() else "is missing"
        return f"{journal} {what}, so none of the run's trials can be shown; restore it from a copy"
    if trials < counted:
        return f"{journal} holds {trials} of the {counted} trials that the run counted; restore it from a copy"
    if _half_a_line(journal):
        return (f"the last line of {journal} is half-written; `search.py resume {journal.parent}` cuts it off and "
                "goes on")
    if state == RunState.FINISHED and unfinished and not counted:
        return f"{journal} ends within a trial although the run finished; restore it from a copy"
    return None


def _half_a_line(journal: Path) -> bool:
    with open_file(journal) as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
