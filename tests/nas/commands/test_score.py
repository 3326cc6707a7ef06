"""`search.py score`: the contract's JSON, and every mistake one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvit import PRESETS
from search import main

KEYS = {"name", "config_key", "task", "score", "score_sd", "unit", "from"}


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cats", "dogs"):
            folder = tmp_path / "photographs" / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photographs"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    assert main(["score", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_photographs(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text(PRESETS["t8"].replace(depths=(2, 2, 8, 2)).to_json())
    rows = answer(capsys, "sa12", str(tmp_path / "mine.json"), "t8", "--data", str(photographs), "--resolution", "64")
    assert [row["name"] for row in rows] == ["sa12", "mine", "t8"]
    for row in rows:
        assert row.keys() >= KEYS
        assert row["task"] == "photographs"
        assert "top-1" in row["unit"]
        assert 0 < row["interval_90"][0] < row["interval_50"][0] < row["score"] < row["interval_90"][1] < 1
        assert "prior" in row["from"]
        assert "no whole network" in row["from"]
    assert rows[0]["score"] > rows[2]["score"]
    assert rows[0]["config_key"] == PRESETS["sa12"].key()


def test_builtin(capsys: pytest.CaptureFixture[str]) -> None:
    row, = answer(capsys, "t8", "--data", "builtin")
    assert row.keys() >= KEYS
    assert "skill" in row["unit"]
    assert "short runs" in row["from"]
    assert 0.3 < row["score"] < 0.6
    assert 0 < row["score_sd"] < 0.1


def test_the_table_names_unit_and_origin(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "t8", "--data", str(photographs), "--resolution", "64"]) == 0
    shown = capsys.readouterr().out
    assert "top-1" in shown
    assert "from prior" in shown
    assert "t8" in shown


@pytest.mark.parametrize(("words", "named"), [
    (["t8"], "--data"), (["t99", "--data", "builtin"], "t99"), (["t8", "--data", "nowhere"], "nowhere"),
    (["t8", "--data", "builtin", "--minutes", "0"], "--minutes 0"),
    (["t8", "--data", "builtin", "--minutes", "nan"], "--minutes nan"),
    (["t8", "--data", "builtin", "--resolution", "8"], "--resolution 8"),
    (["t8", "--data", "builtin", "--seed", "-1"], "--seed -1"), (["t8", "--run", "nowhere"], "nowhere"),
    (["BROKEN", "--data", "builtin"], "JSON")])
def test_mistakes(words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.json").write_text("{depths")
    assert main(["score", *(str(tmp_path / "broken.json") if w == "BROKEN" else w for w in words)]) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert not said.out
    assert len(said.err.strip().splitlines()) == 1
