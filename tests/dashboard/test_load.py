from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import demo
from dashboard.load import Reader
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.run import Run
from space import SearchSpace


def test_reading_equals_the_run_s_own_reading(root: Path) -> None:
    frame = Run.open(root / "demo").frame()
    assert Reader(root / "demo").read().frame.drop(columns="run").equals(frame)


def test_only_what_was_appended_is_read(tmp_path: Path) -> None:
    run = demo.make(tmp_path / "run", 4)
    reader = Reader(run.path)
    first = reader.read()
    assert reader.read() is first
    demo.add(run.study, SearchSpace.load("default"), PRESETS["t8"].replace(depths=(1, 1, 1, 1)), 1.5,
             np.random.default_rng(9))
    second = reader.read()
    assert len(second.frame) == len(first.frame) + 1
    assert second.version != first.version
    with run.journal.open("ab") as journal:
        journal.write(b'{"op_code": 8, "half')
    assert len(reader.read().frame) == len(second.frame)
    assert run.repair()
    assert len(reader.read().frame) == len(second.frame)


def test_a_damaged_run_is_one_sentence(tmp_path: Path) -> None:
    run = demo.make(tmp_path / "run", 2)
    run.journal.write_text("nonsense\n" + run.journal.read_text())
    with pytest.raises(UsageError, match="is damaged"):
        Reader(run.path).read()
    (run.path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        Reader(run.path).read()
