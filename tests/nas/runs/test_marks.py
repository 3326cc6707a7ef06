from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import demo
from nas.runs.marks import MOST_LETTERS, Mark, read_marks, write_mark
from nas.runs.run import Run


def test_a_star_and_a_note_stay_with_the_run_and_can_be_taken_back(tmp_path: Path) -> None:
    run = demo.make(tmp_path / "run", 2, finalists=0)
    write_mark(run, 3, Mark(True, "for the doorbell = +1"))
    write_mark(run, 4, Mark(note="slow"))
    assert read_marks(Run.open(run.path).attrs()) == {3: Mark(True, "for the doorbell = +1"), 4: Mark(False, "slow")}
    write_mark(run, 4, Mark())
    assert list(read_marks(Run.open(run.path).attrs())) == [3]
    with pytest.raises(ValueError, match="at most"):
        write_mark(run, 3, Mark(note="x" * (MOST_LETTERS + 1)))


@pytest.mark.parametrize("attrs", [{}, {"mark:x": {"star": True}}, {"mark:1": [1]}, {"mark:1": {}},
                                   {"1": {"star": True}}, {"mark:1": {"star": "yes"}}])
def test_what_cannot_be_a_mark_is_left_out(attrs: dict[str, object]) -> None:
    assert read_marks(attrs) == {}
