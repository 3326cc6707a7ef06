"""Call a command's function and turn what it raises into one sentence and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading

from nas.addresses import is_address, name_device
from nas.errors import Failure, UsageError
from nas.text import printable


class _Terminated(BaseException):
    """SIGTERM: whatever was made aside is removed on the way out."""


def _say(text: str) -> None:
    print(f"search.py: {printable(text)}", file=sys.stderr)


def _terminate(*_: object) -> None:
    raise _Terminated


def call(handler: str, args: argparse.Namespace) -> int:
    """The exit code of `handler`, "module:function", called with `args`."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    module, _, function = handler.partition(":")
    try:
        # What the user names here may be sent the user's token; what a run names may not.
        if is_address(device := getattr(args, "device", None) or ""):
            name_device(device)
        return int(getattr(importlib.import_module(module), function)(args) or 0)
    except (UsageError, ValueError) as error:
        # FastViTConfig and SearchSpace raise plain ValueErrors; anything else that is one is a defect to look into.
        if os.environ.get("FASTVIT_EXPLORER_DEBUG"):
            raise
        _say(str(error))
        return 2
    except Failure as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    except _Terminated:
        _say("stopped")
        return 143
    except BrokenPipeError:
        # The reader went away (`| head`); Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder without permission: nothing that a traceback would explain better.
        if os.environ.get("FASTVIT_EXPLORER_DEBUG"):
            raise
        _say(f"{error.filename or 'writing'}: {error.strerror or error}")
        return 1
    except Exception as error:
        # A defect, or a file that nobody thought of; where it lies helps whoever mends it, not the user.
        if os.environ.get("FASTVIT_EXPLORER_DEBUG"):
            raise
        words = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:300]
        _say(f"unexpected {words}; FASTVIT_EXPLORER_DEBUG=1 shows where")
        return 1
