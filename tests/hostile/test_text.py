"""Texts of a run that a terminal or a spreadsheet would act on, from the run to whatever shows them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from dashboard import demo
from dashboard.tables import to_csv
from nas.text import cell, printable
from search import main

ACTS = ["\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "\r over it", "\x08\x08", "\u202eright to left", "\x00"]
FORMULAS = ["=cmd()", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


@given(st.text())
def test_nothing_is_left_that_acts(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(sign.isprintable() or sign in "\n\t" or sign.isspace() or ord(sign) > 0xa0 for sign in shown)
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert printable(shown) == shown
    assert printable("T8 über 2 ms ± 0.1 → 日本") == "T8 über 2 ms ± 0.1 → 日本"


@given(st.one_of(st.text(), st.sampled_from(FORMULAS)))
def test_no_cell_is_a_formula(text: str) -> None:
    assert not str(cell(text)).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert cell(-1.5) == -1.5


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = demo.make(tmp_path / "run", 3)
    for text in (*ACTS, *FORMULAS):
        trial = run.study.ask()
        trial.set_user_attr("record", {"outcome": "failed", "reason": text, "worker": text, "traceback": text})
        run.study.tell(trial, state=TrialState.FAIL)
    values = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(values | {"task": ACTS[0], "device": ACTS[2]}))
    return run.path


@pytest.mark.parametrize("command", ["status", "front", "front --csv", "resume", "worker", "verify",
                                     "export --trial 99"])
def test_no_command_passes_it_on(run: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *words = command.split()
    main([name, str(run), *words, *(["--trials", "1"] if name == "resume" else []),
          *(["--name", "fastvit_x"] if name == "export" else [])])
    said = "".join(capsys.readouterr())
    assert said
    for sign in ("\x1b", "\x9b", "\x07", "\x08", "\u202e", "\x00"):
        assert sign not in said
    assert main(["status", str(run / "\x1b[2Jaway")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_every_table_holds_data_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-run", str(run), "--to", str(tmp_path / "trials.csv")]) == 0
    texts = [(tmp_path / "trials.csv").read_text()]
    frame = pd.DataFrame({"reason": [*FORMULAS, *ACTS], "number": [-1.0] * len([*FORMULAS, *ACTS])})
    texts.append(to_csv(frame).decode())
    capsys.readouterr()
    main(["front", str(run), "--csv"])
    texts.append(capsys.readouterr().out)
    for text in texts:
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len(rows) > 1
        for value in (value for row in rows for value in row):
            assert not value.startswith(("=", "+", "@", "\t", "\r", "\n")), value
            assert not value.startswith("-") or float(value) < 0
            assert "\x1b" not in value
