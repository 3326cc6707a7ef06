"""`search.py space`: what a search space holds."""

from __future__ import annotations

import argparse
import json


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("space", help="show a search space", allow_abbrev=False,
                                 description="Dimensions, number of configurations, and their size from end to end.")
    parser.add_argument("space", nargs="?", default="default", help="a shipped space or a TOML file")
    parser.add_argument("--resolution", type=int, default=256, help="input size for GMACs (default 256)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.space:show")


def show(args: argparse.Namespace) -> int:
    import numpy as np

    from fastvit.cost import cost
    from nas.errors import UsageError
    from space import SearchSpace

    if args.resolution < 32:
        raise UsageError(f"--resolution {args.resolution}: expected at least 32 pixels")
    space = SearchSpace.load(args.space)
    rng = np.random.default_rng(0)
    drawn = [cost(space.sample(rng), args.resolution) for _ in range(2000)]
    small, large = (cost(config, args.resolution) for config in space.smallest_and_largest())
    rows = {
        "smallest": (small.params_m, small.gmacs),
        "median of 2,000 random": (float(np.median([c.params_m for c in drawn])),
                                   float(np.median([c.gmacs for c in drawn]))),
        "largest": (large.params_m, large.gmacs),
    }
    if args.json:
        print(json.dumps({
            "name": space.name, "size": space.size(), "resolution": args.resolution,
            "dimensions": {d.name: list(d.choices) for d in space.dimensions},
            "cost": {name: {"params_m": p, "gmacs": g} for name, (p, g) in rows.items()}}))
        return 0
    print(f"{space.name}: {len(space.dimensions)} dimensions, {space.size():.3g} configurations\n")
    for dimension in space.dimensions:
        choices = [str(choice) for choice in dimension.choices]
        shown = ", ".join(choices) if len(choices) <= 7 else f"{choices[0]}, {choices[1]} .. {choices[-1]}"
        print(f"  {dimension.name:<18} {len(choices):>3} choices  {shown}")
    print(f"\n  {'':<24}{'params (M)':>12}{f'GMACs at {args.resolution} px':>20}")
    for name, (params_m, gmacs) in rows.items():
        print(f"  {name:<24}{params_m:>12.2f}{gmacs:>20.3f}")
    return 0
