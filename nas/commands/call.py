"""Call a command's function and turn what it raises into one sentence and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from nas.addresses import is_address, name_device
from nas.errors import Failure, UsageError


def call(handler: str, args: argparse.Namespace) -> int:
    """The exit code of `handler`, "module:function", called with `args`."""
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
        print(f"search.py: {error}", file=sys.stderr)
        return 2
    except Failure as error:
        print(f"search.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("search.py: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`); Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder without permission: nothing that a traceback would explain better.
        if os.environ.get("FASTVIT_EXPLORER_DEBUG"):
            raise
        print(f"search.py: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        return 1
