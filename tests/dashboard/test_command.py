from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from dashboard.process import command, environment
from nas.commands.dashboard import locate
from nas.errors import UsageError

PROJECT = Path(__file__).parents[2]


def test_a_run_names_its_root(root: Path) -> None:
    assert locate(str(root / "demo"), None) == ("demo", root.resolve())
    assert locate(None, str(root)) == ("", root.resolve())
    with pytest.raises(UsageError, match="not directly below"):
        locate(str(root / "demo"), str(root.parent))


def test_the_protections_are_on() -> None:
    words = command(8501, browser=False)
    for flag in ("--server.address=127.0.0.1", "--server.enableXsrfProtection=true", "--server.headless=true",
                 "--server.allowedHosts=localhost", "--server.allowedHosts=127.0.0.1",
                 "--browser.gatherUsageStats=false", "--client.toolbarMode=viewer"):
        assert flag in words
    assert str(PROJECT) in environment(Path("x"), "")["PYTHONPATH"].split(os.pathsep)


@pytest.mark.parametrize("words", [["--demo"], ["RUN"]])
def test_the_server_answers_and_ends(root: Path, words: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    what = [str(root / "demo") if word == "RUN" else word for word in words]
    process = subprocess.Popen([sys.executable, str(PROJECT / "search.py"), "dashboard", *what, "--port", str(port),
                                "--no-browser"], stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        for _ in range(150):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        else:
            pytest.fail("the server did not start")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_demo_takes_no_run(root: Path) -> None:
    done = subprocess.run([sys.executable, str(PROJECT / "search.py"), "dashboard", str(root / "demo"), "--demo",
                           "--port", "58123"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--demo makes runs of its own" in done.stderr
