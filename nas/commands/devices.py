"""`search.py devices`: where latency can be measured or predicted here, and what each missing place needs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("devices", help="where latency can be measured or predicted", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.devices:show")


def show(args: argparse.Namespace) -> int:
    from nas.latency import devices

    found = devices()
    if args.json:
        print(json.dumps([asdict(status) for status in found]))
        return 0
    remote = "http://HOST:PORT"
    width = max(len(name) for name in [remote, *(status.name for status in found)]) + 2
    print(f"{'':<{width}}{'':<10}{'origin':<11}{'precisions':<18}")
    for status in sorted(found, key=lambda status: not status.usable):
        what = status.version if status.usable else status.needs
        print(f"{status.name:<{width}}{'usable' if status.usable else 'missing':<10}{status.origin:<11}"
              f"{' '.join(status.precisions):<18}{what}")
    print(f"{remote:<{width}}a machine that runs `search.py serve-device`")
    return 0
