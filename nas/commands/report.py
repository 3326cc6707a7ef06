"""`search.py report`: a run as one HTML file to read, print or send."""

from __future__ import annotations

import argparse

from nas.commands.run import add_choice, add_storage


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "report", help="a run as one HTML file", allow_abbrev=False,
        description="Write the recommendation, the front, what confirming found and what the numbers are worth as one "
                    "file that needs no network and prints.")
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("--to", metavar="FILE", help="where to write it (default: report.html in the run's folder)")
    add_choice(parser)
    add_storage(parser)
    parser.set_defaults(handler="nas.commands.report:report")


def report(args: argparse.Namespace) -> int:
    from pathlib import Path

    from nas.commands.run import check_against, limits_of
    from nas.errors import Failure, UsageError
    from nas.files import write_atomic
    from nas.report.page import report_page
    from nas.runs.run import Run
    from nas.workers.launcher import check_budget

    if args.budget_ms is not None:
        check_budget(args.budget_ms)
    check_against(args.against)
    run = Run.open(args.run, args.storage)
    target = Path(args.to) if args.to else run.path / "report.html"
    if target.is_dir():
        raise UsageError(f"--to {args.to}: is a folder; name a file, such as {target / 'report.html'}")
    page = report_page(run, args.budget_ms, limits_of(args), args.against)
    try:
        write_atomic(target, page)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror or error}; name another file with --to") from None
    print(target)
    return 0
