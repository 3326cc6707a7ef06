"""Files that are written whole or not at all, and the folder for what can be made again."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

CACHE = "FASTVIT_EXPLORER_CACHE"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write aside, flush to disk, move into place: a reader or a power cut never meets half a file.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    # Made as any new file is, so that the user's umask decides who may read it.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def umask() -> int:
    """What the user takes from the permissions of new files."""
    found = os.umask(0o077)  # it can only be read by setting it
    os.umask(found)
    return found


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def swap_folders(first: Path, second: Path) -> None:
    """Exchange two folders of one disk. On Linux in one step; elsewhere by three renames, undone when one fails.

    Raises:
        OSError: a folder is missing or cannot be renamed.
    """
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        current, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if rename is not None and rename(current, os.fsencode(first), current, os.fsencode(second), exchange) == 0:
            return
    between = first.with_name(f"{first.name}.swap")
    os.rename(second, between)
    try:
        os.rename(first, second)
    except BaseException:
        os.rename(between, second)
        raise
    os.rename(between, first)


def cache_folder(*parts: str) -> Path:
    """A folder for what can be made again; FASTVIT_EXPLORER_CACHE names another place than the user's cache.

    Raises:
        OSError: it cannot be made or written; the message names the variable.
    """
    from platformdirs import user_cache_path

    folder = Path(os.environ.get(CACHE) or user_cache_path("fastvit-explorer")).joinpath(*parts)
    reason = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            reason = os.strerror(errno.EACCES)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason is not None:
        raise OSError(errno.EACCES, f"the cache folder cannot be written ({reason}); name another with the environment "
                                    f"variable {CACHE}", str(folder))
    return folder
