"""`search.py export-run`: every trial of a run as a table that other programs read."""

from __future__ import annotations

import argparse
import sys

from nas.commands.run import add_storage

SUFFIXES = (".csv", ".parquet")


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("export-run", help="all trials of a run as CSV or Parquet", allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("--to", metavar="FILE", required=True, help="a .csv or .parquet file")
    add_storage(parser)
    parser.set_defaults(handler="nas.commands.export_run:export_run")


def export_run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from nas.errors import Failure, UsageError
    from nas.report.table import write_table
    from nas.runs.run import Run

    target = Path(args.to)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--to {args.to}: expected a file that ends in {' or '.join(SUFFIXES)}")
    run = Run.open(args.run, args.storage)
    try:
        count = write_table(run, target)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror or error}") from None
    print(f"{count} trials in {target}", file=sys.stderr)
    return 0
