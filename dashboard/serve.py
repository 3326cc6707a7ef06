"""A dashboard's server as a context manager: for tests, benchmarks and screenshots.

    with serving(Path("runs"), "a-run") as address: ...
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from dashboard.process import ADDRESS, command, environment, home
from nas.errors import Failure

PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
    return port


def wait(port: int, process: subprocess.Popen) -> None:
    """Return once the server answers.

    Raises:
        Failure: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{ADDRESS}:{port}/_stcore/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise Failure(f"the dashboard's server did not answer on port {port}")


@contextlib.contextmanager
def serving(root: Path, run: str = "", app: Path | None = None) -> Iterator[str]:
    """The address of a server for the runs below `root`, with `run` opened first; it ends with the context.

    `app` is another Streamlit script to be served instead, by Streamlit alone.
    """
    port = free_port()
    process = subprocess.Popen(command(port, browser=False, app=app), env=environment(root.resolve(), run), cwd=home(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(port, process)
        yield f"http://{ADDRESS}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
