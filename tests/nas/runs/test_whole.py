"""What is lost of a run's journal is said, and a whole one is not complained of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.runs.meta import RunProgress, RunState
from nas.runs.run import Run
from nas.runs.whole import missing
from tests.nas.trials import meta as made_meta

LINES = b'{"op_code":0}\n{"op_code":4}\n'


@pytest.mark.parametrize(("meta", "state", "content", "trials", "unfinished", "said"), [
    ({"elapsed_s": 9.0}, "finished", LINES, 3, 0, None),
    ({"elapsed_s": 9.0, "trials_told": 3}, "finished", LINES, 3, 0, None),
    ({"elapsed_s": 9.0, "trials_told": 3}, "interrupted", LINES, 3, 1, None),  # a kill leaves trials unfinished
    ({}, "interrupted", None, 0, 0, None),  # it never began
    ({"elapsed_s": 9.0}, "running", LINES[:-3], 1, 1, None),  # a line is being written
    ({"elapsed_s": 9.0, "storage": "postgresql://db"}, "finished", None, 3, 0, None),
    ({"elapsed_s": 9.0}, "finished", None, 0, 0, "is missing"),
    ({"trials_told": 3}, "interrupted", b"", 0, 0, "is empty"),
    ({"trials_told": 3}, "finished", LINES, 2, 0, "holds 2 of the 3 trials"),
    ({"elapsed_s": 9.0}, "finished", LINES[:-3], 3, 0, "half-written"),
    ({"elapsed_s": 9.0}, "finished", LINES, 3, 1, "within a trial"),
])
def test_what_is_lost_is_said(tmp_path: Path, meta: dict[str, Any], state: str, content: bytes | None, trials: int,
                              unfinished: int, said: str | None) -> None:
    journal = tmp_path / "journal.log"
    if content is not None:
        journal.write_bytes(content)
    asked = made_meta(storage=meta.get("storage", "journal"))
    progress = RunProgress(**{key: value for key, value in meta.items() if key != "storage"})
    found = missing(Run(tmp_path, asked, progress), RunState(state), trials, unfinished)
    assert (found is None) == (said is None)
    assert said is None or said in (found or "")


def test_status_says_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dashboard import demo
    from search import main

    run = demo.make(tmp_path / "run", 4, finalists=0)
    assert main(["status", str(run.path)]) == 0
    assert "damaged" not in capsys.readouterr().out
    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[:len(lines) // 2]))
    assert main(["status", str(run.path)]) == 0
    assert "damaged: " in capsys.readouterr().out
