"""`search.py doctor`: whether the main job can run here, and what to do where it cannot."""

from __future__ import annotations

import argparse
import json


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="what works on this machine, and what is missing", allow_abbrev=False)
    parser.add_argument("--device", default="onnxruntime", help="the device you want to search for")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.doctor:doctor")


def doctor(args: argparse.Namespace) -> int:
    from nas.commands.machine_checks import examine
    from nas.latency.devices import canonical

    checks = examine(canonical(args.device))
    able = all(check.ok for check in checks if check.needed)
    if args.json:
        print(json.dumps({"ok": able, "checks": [vars(check) for check in checks]}))
        return 0 if able else 1
    for check in checks:
        mark = "ok" if check.ok else "MISSING" if check.needed else "-"
        print(f"{mark:<8}{check.name:<22}{check.found}" + (f"; {check.advice}" if check.advice else ""))
    print("\nthe search can run here" if able else "\nthe search cannot run here: see MISSING")
    return 0 if able else 1
