"""A PostgreSQL and Optuna's gRPC proxy on loopback, for the tests and benchmarks of shared storages."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    """Until the process listens there."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, "the server ended"
        time.sleep(0.2)


def postgres_folder() -> Path | None:
    """Where Debian or the PATH keeps initdb and pg_ctl."""
    found = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    if (there := shutil.which("initdb")) is not None:
        found.append(Path(there).resolve().parent)
    return found[-1] if found else None


class Postgres:
    """One server in a folder of its own, that can be stopped and started again."""

    def __init__(self, folder: Path, programs: Path, *, connections: int = 100) -> None:
        self.folder, self.programs, self.port = folder, programs, free_port()
        if os.getuid() == 0:  # it refuses to run as root
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "explorer")
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.write(f"port = {self.port}\nunix_socket_directories = '{folder}'\n"
                       f"listen_addresses = '127.0.0.1'\nmax_connections = {connections}\n")
        self.start()
        subprocess.run([programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "explorer", "runs"],
                       check=True, capture_output=True)

    @property
    def url(self) -> str:
        return f"postgresql://explorer:s3cret@127.0.0.1:{self.port}/runs"

    def _run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), *words]
        if os.getuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")


def _has_user(name: str) -> bool:
    import pwd

    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


@contextlib.contextmanager
def postgres(*, connections: int = 100) -> Iterator[Postgres | None]:
    """A running server, or None where PostgreSQL is not installed."""
    programs = postgres_folder()
    if programs is None or (os.getuid() == 0 and not (shutil.which("setpriv") and _has_user("postgres"))):
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="explorer-pg-"))
    server = Postgres(folder, programs, connections=connections)
    try:
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def proxy(url: str, *, threads: int = 10) -> Iterator[str]:
    """`search.py serve-storage` in front of a database; its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "search.py", "serve-storage", "--host", "127.0.0.1", "--port",
                                str(port), "--threads", str(threads)], cwd=ROOT, stderr=subprocess.DEVNULL,
                               env=os.environ | {"FASTVIT_EXPLORER_STORAGE": url})
    try:
        wait_for_port(port, process)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
