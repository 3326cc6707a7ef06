"""The command line: words in, one call into nas or dashboard, words out.

stdout carries data, stderr progress. Exit codes: 0 done, 1 failure, 2 usage, 3 finished and nothing meets
the budget, 130 and 143 on signals.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from nas.commands import GROUPS
from nas.commands.call import call

DESCRIPTION = """\
Find the FastViT configurations with the best accuracy under a latency budget on a device.

  python search.py --budget-ms 2       search; `run` is the default command
"""


def _version() -> str:
    try:
        return version("fastvit-explorer")
    except PackageNotFoundError:
        return "not installed"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="search.py", description=DESCRIPTION, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in GROUPS:
        importlib.import_module(f"nas.commands.{group}").register(commands)
    return parser


_ASCII = {"\N{PLUS-MINUS SIGN}": "+-", "\N{MULTIPLICATION SIGN}": "x", "\N{HORIZONTAL ELLIPSIS}": "...",
          "\N{RIGHTWARDS ARROW}": "->", "\N{MICRO SIGN}": "u", "\N{EM DASH}": "-", "\N{EN DASH}": "-",
          "\N{MIDDLE DOT}": "-"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands in for signs that a terminal's encoding lacks: losing one must not lose a result."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start:error.end]
    return "".join(_ASCII.get(sign, "?") for sign in signs), error.end


def _print_anything() -> None:
    """Let stdout and stderr take every text, in any encoding."""
    codecs.register_error("fastvit-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="fastvit-plain")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _print_anything()
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    # One rule makes `run` the default; root options beside sub-commands would parse some words silently wrong.
    if words and words[0] not in commands and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "run")
    args = parser.parse_args(words or ["--help"])
    return call(args.handler, args)


if __name__ == "__main__":
    sys.exit(main())
