"""A run whose folder leads elsewhere, or holds what is no file: nothing is written outside, nothing waits for ever."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from dashboard import demo
from dashboard.load import Reader
from nas.errors import UsageError
from nas.files import write_atomic, write_json
from nas.runs import folder
from nas.runs.journal import Journal
from nas.runs.run import Run
from search import main
from tests.nas.workers.test_kill import begin

PRECIOUS = "what the user does not want to lose\n"
LINKS = ["journal.log", "workers", "journal.damaged", "launcher.lock", "front.csv", "stop", "run.json", "weights",
         "workers/w0.log", "something"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return begin(tmp_path / "run", 0).path


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("command", ["resume", "worker"])
def test_a_run_is_not_gone_on_with_where_it_leads_outside(run: Path, name: str, command: str, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    target, link = tmp_path / "precious", run / name
    if name in ("workers", "weights"):
        (target / "inner").mkdir(parents=True)
        link.exists() and link.rmdir()
    else:
        target.write_bytes(link.read_bytes() if link.exists() else PRECIOUS.encode())
        link.unlink(missing_ok=True)
    link.symlink_to(target)
    before = target.read_bytes() if target.is_file() else sorted(target.rglob("*"))
    assert main([command, str(run), *(["--trials", "1"] if command == "resume" else [])]) == 2
    assert (target.read_bytes() if target.is_file() else sorted(target.rglob("*"))) == before
    assert f"{link} is a link to" in capsys.readouterr().err


def test_what_is_written_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text(PRECIOUS)
    for name in ("journal.log", "stop", "other.json"):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(UsageError, match="is a link"):
        Journal(tmp_path / "journal.log").append_logs([{"a": 1}])
    write_json(tmp_path / "other.json", {})
    assert target.read_text() == PRECIOUS


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["run.json", "journal.log"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "long line"])
def test_what_is_no_file_is_said_and_not_waited_for(tmp_path: Path, name: str, kind: str,
                                                    capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MOST_BYTES", 10**6)
    path = demo.make(tmp_path / "run", 3).path
    (path / name).unlink()
    if kind == "pipe":
        os.mkfifo(path / name)
    elif kind == "folder":
        (path / name).mkdir()
    elif kind == "device":
        (path / name).symlink_to("/dev/zero")
    else:
        (path / name).write_bytes(b'{"op_code": 8, "a": "' + b"x" * 2 * 10**6)
    # A last line that cannot be read is what a crash leaves: resume cuts it off.
    resume = [] if kind == "long line" and name == "journal.log" else [["resume", str(path), "--trials", "1"]]
    for command in (["status", str(path)], ["front", str(path)], *resume,
                    ["export-run", str(path), "--to", str(tmp_path / "x.csv")]):
        assert main(command) == 2, command
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert str(path / name) in said.err
    with contextlib.suppress(UsageError):
        assert Reader(path).read().missing


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anything")
def test_reading_needs_no_permission_to_write_for_users(tmp_path: Path) -> None:
    path = demo.make(tmp_path / "run", 3).path
    for found in (path, *path.rglob("*")):
        found.chmod(found.stat().st_mode & ~0o222)
    assert main(["status", str(path)]) == 0


def test_reading_opens_nothing_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """As on a disk that is mounted for reading alone, also where root asks."""
    path = demo.make(tmp_path / "run", 3).path
    before = {found: found.stat().st_mtime_ns for found in path.rglob("*")}
    opened, real = [], os.open

    def look(name: str, flags: int, *words: int, **more: int) -> int:
        if str(path) in str(name) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(name)
        return real(name, flags, *words, **more)

    monkeypatch.setattr(os, "open", look)
    assert main(["status", str(path), "--json"]) == 0
    assert main(["front", str(path), "--json"]) == 0
    Run.open(path).trials()
    Reader(path).read()
    assert not opened
    assert {found: found.stat().st_mtime_ns for found in path.rglob("*")} == before
    (path / "journal.log").unlink()
    Run.open(path).trials()
    assert not (path / "journal.log").exists()


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_files_are_made_as_the_user_wants_them(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        write_atomic(tmp_path / "file", "text")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
