"""A run's folder as somebody else may have made it: what is read from it, and that nothing is written outside."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nas.errors import UsageError

MOST_BYTES = 64 * 2**20  # of a file that is read at once, and of one line of a journal: a thousand times what is usual
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not wait for its other end


def open_file(path: Path, mode: str = "rb") -> IO[bytes]:
    """A plain file of a run, for reading ("rb"), for both ("r+b") or for appending ("ab", made where it is missing).
    What is written is opened without following a link.

    Raises:
        UsageError: it is a link, a pipe, a device or a folder.
        OSError: it is missing or cannot be opened.
    """
    flags = {"rb": os.O_RDONLY, "r+b": os.O_RDWR | _NO_LINK,
             "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK}[mode]
    if mode != "rb" and path.is_symlink():
        raise UsageError(f"{path} is a link; a run is written only where it is: put the file itself there")
    no_file = f"{path} is no plain file; nothing is read from a pipe, a device or a folder in its place"
    try:
        handle = os.open(path, flags | _NO_WAIT | getattr(os, "O_BINARY", 0), 0o666)
    except IsADirectoryError:
        raise UsageError(no_file) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(no_file)
    return os.fdopen(handle, mode, buffering=0 if mode != "rb" else -1)


def read_file(path: Path) -> bytes:
    """A whole file of a run.

    Raises:
        UsageError: it is no plain file, or too large to be one of this program.
        OSError: it is missing or cannot be read.
    """
    with open_file(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} has more than {MOST_BYTES >> 20} MB; it was not written by this program")
    return data


def lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a journal from where the file stands.

    Raises:
        ValueError: one is longer than any that this program writes.
    """
    while line := file.readline(MOST_BYTES + 1):
        if len(line) > MOST_BYTES:
            raise ValueError(f"a line of more than {MOST_BYTES >> 20} MB")
        yield line


def check_writable(path: Path) -> None:
    """Refuse a run whose folder leads elsewhere: whoever goes on with it would write there.

    Raises:
        UsageError: names what is a link, or neither a file nor a folder.
    """
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            found = Path(folder) / name
            kind = found.lstat().st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                what = f"a link to {os.readlink(found)}" if stat.S_ISLNK(kind) else "neither a file nor a folder"
                raise UsageError(f"{found} is {what}; a run is gone on with only where all of it is inside its "
                                 "folder: put a copy in its place")
