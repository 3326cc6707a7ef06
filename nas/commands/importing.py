"""`search.py import`: a variant's folder as an anchor of a run, its weights kept beside it for warm starts."""

from __future__ import annotations

import argparse
import json
import sys


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "import", help="take a variant into a run", allow_abbrev=False,
        description="Put the configuration of an exported variant in a run's queue as a named anchor: it is measured "
                    "and scored like the run's own and shown beside them. Its weights are copied to RUN/imported/NAME, "
                    "from where `export --inherit RUN/imported/NAME` slices them into any trial.")
    parser.add_argument("folder", metavar="FOLDER", help="an exported variant")
    parser.add_argument("--run", required=True, metavar="RUN", help="the folder of the run")
    parser.add_argument("--name", help="name of the anchor (default: the variant's)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.importing:run")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from nas.export.importing import import_variant

    kept = import_variant(Path(args.folder), Path(args.run), args.name)
    if args.json:
        print(json.dumps({"run": args.run, "anchor": kept.name, "weights": str(kept)}))
    else:
        print(kept)
    print(f"{kept.name} waits in the queue of {args.run}; `search.py resume {args.run}` measures and scores it, and "
          f"`search.py export {args.run} --trial N --name NAME --inherit {kept}` starts a trial from its weights",
          file=sys.stderr)
    return 0
