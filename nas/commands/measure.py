"""`search.py measure`: latency of presets and configurations on a device."""

from __future__ import annotations

import argparse
import json
from typing import Any


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("measure", help="measure the latency of configurations", allow_abbrev=False)
    parser.add_argument("targets", nargs="+", metavar="PRESET_OR_CONFIG", help="preset names or JSON files")
    parser.add_argument("--device", default="onnxruntime", help="where to measure")
    parser.add_argument("--resolution", type=int, default=256, metavar="PX", help="input size (default 256)")
    parser.add_argument("--fresh", action="store_true", help="measure again instead of reading the cache")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.measure:measure")


def measure(args: argparse.Namespace) -> int:
    from fastvit.cost import cost
    from fastvit.presets import named_config
    from nas.errors import UsageError
    from nas.latency import check_device
    from nas.latency import measure as measured

    if args.resolution < 32:
        raise UsageError(f"--resolution {args.resolution}: expected at least 32 pixels")
    check_device(args.device)
    named = [named_config(target) for target in args.targets]
    rows: list[dict[str, Any]] = []
    for name, config in named:
        found = measured(config, args.device, resolution=args.resolution, name=name, fresh=args.fresh)
        size = cost(config, args.resolution)
        rows.append({"name": name, "config_key": config.key(), "device": found.device, "origin": found.origin,
                     "resolution": found.resolution, "latency_ms": found.latency_ms, "ci_low_ms": found.ci_low_ms,
                     "ci_high_ms": found.ci_high_ms, "params_m": size.params_m, "gmacs": size.gmacs,
                     "flags": list(found.flags)})
    if args.json:
        print(json.dumps(rows))
        return 0
    print(f"{'':<12}{'latency ms':>12}{'95 % interval':>20}{'params M':>10}{'GMACs':>8}"
          f"   {args.device}, {args.resolution} px, measured")
    for row in rows:
        interval = f"[{row['ci_low_ms']:.3f}, {row['ci_high_ms']:.3f}]"
        print(f"{row['name']:<12}{row['latency_ms']:>12.3f}{interval:>20}{row['params_m']:>10.2f}{row['gmacs']:>8.3f}"
              + "".join(f"   {flag}" for flag in row["flags"]))
    return 0
