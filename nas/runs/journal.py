"""Optuna's journal file, made to survive what kills its writers, and repaired where something else cut it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import BaseJournalBackend

from nas.errors import UsageError
from nas.runs.folder import lines, open_file
from nas.runs.studies import is_lasting


@contextlib.contextmanager
def locked(file: IO[bytes]) -> Iterator[None]:
    """The file for this process alone; the kernel gives it back however the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        from filelock import FileLock

        with FileLock(file.name + ".lock", poll_interval=0.005):
            yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


class Journal(BaseJournalBackend):
    """Optuna's journal file, made to survive what kills its writers.

    Optuna's own backend marks the lock by a file: after a kill everybody waits 30 s for it. And half a line, left
    by a kill or a full disk, swallows the line that is appended to it, which nothing can read any more. Here the
    kernel holds the lock, and half a line is cut off before the next one is written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._offset, self._count = path, 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if log_number_from != self._count:
            self._offset, self._count = 0, 0
        if not self.path.exists():  # made with its first line, so that reading needs no permission to write
            return
        with open_file(self.path) as file:
            file.seek(self._offset)
            for line in lines(file):
                if not line.endswith(b"\n"):
                    return  # being written, or cut short: whoever appends next sees to it
                self._offset += len(line)
                self._count += 1
                if self._count > log_number_from:
                    yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        data = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs).encode()
        open_file(self.path, "ab").close()
        with open_file(self.path, "r+b") as file, locked(file):
            end = whole(file)
            try:
                # A full disk takes the first part of a write and says nothing.
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if any(map(is_lasting, logs)):  # all that was appended before is flushed with it
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def whole(file: IO[bytes]) -> int:
    """Cut off what stands after the last line's end and go there; the length that is left."""
    end = size = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        if (at := file.read(end - start).rfind(b"\n")) >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    return file.seek(end)


def bad_line(path: Path) -> int:
    """The number of the first line that is no JSON, else of the last."""
    lines = path.read_bytes().split(b"\n")
    return next((i for i, line in enumerate(lines, 1) if line and not _is_json(line)), len(lines))


def repair(path: Path) -> str | None:
    """Cut off a last line that is half-written, keeping it beside the journal; says so.

    Raises:
        UsageError: the damage is not in the last line.
    """
    # A worker that is still at its last trial may be writing.
    with open_file(path, "r+b") as file, locked(file):
        data = file.read()
        cut = data.rfind(b"\n") + 1
        last = data.rfind(b"\n", 0, max(0, cut - 1)) + 1
        if data[last:cut].strip() and not _is_json(data[last:cut]):
            cut = last
        if any(line and not _is_json(line) for line in data[:cut].split(b"\n")):
            raise UsageError(f"{path} is damaged at line {bad_line(path)}, which is not its last; "
                             "restore the file from a copy")
        if cut == len(data):
            return None
        with open_file(path.with_suffix(".damaged"), "ab") as kept:
            kept.write(data[cut:])
        file.truncate(cut)
    return f"cut {len(data) - cut} bytes of a half-written last line off {path} (kept in journal.damaged)"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
