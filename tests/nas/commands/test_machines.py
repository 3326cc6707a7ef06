"""Terminals, encodings and homes that are not like the developer's."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from nas.files import cache_folder
from search import main


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "shift_jis"])
def test_every_encoding_gets_the_result(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert main(["score", "t8", "sa12", "--data", "builtin"]) == 0
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert "sa12" in text
    assert "± sd" in text or "+- sd" in text
    assert "?" not in text


@pytest.mark.parametrize("variable", ["FASTVIT_EXPLORER_CACHE", "HOME"])
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(
        variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    for name in ("FASTVIT_EXPLORER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "file" / "home"))
    assert main(["--budget-ms", "2", "--run", str(tmp_path / "run"), "--data", "builtin"]) == 1
    told = capsys.readouterr().err
    assert str(tmp_path / "file" / "home") in told
    assert "FASTVIT_EXPLORER_CACHE" in told
    assert "Traceback" not in told


def test_a_cache_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)  # who runs the tests may be root, whom no permission stops
    with pytest.raises(OSError, match=r"cannot be written .*FASTVIT_EXPLORER_CACHE"):
        cache_folder("anything")
