"""`search.py measure`: latency of presets, configurations and models of timm on a device."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.latency.network import Network
    from nas.latency.sheet import Sheet


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "measure", help="measure the latency of networks", allow_abbrev=False,
        description="Latency of deployed (fused) networks with random weights, each with its 95 % interval. "
                    "docs/latency.md tells how it is measured.")
    parser.add_argument("targets", nargs="+", metavar="NETWORK",
                        help="presets, JSON files of configurations, or timm:NAME for any model of timm")
    parser.add_argument("--device", default="onnxruntime", help="where (`search.py devices`; default onnxruntime)")
    parser.add_argument("--resolution", type=int, default=256, metavar="PX", help="input size (default 256)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at once (default 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the runtime (default 1)")
    parser.add_argument("--precision", help="number format, of those that `search.py devices` lists for the device")
    parser.add_argument("--protocol", default="warm", metavar="NAME",
                        help="warm (default), or a published one: modelbench (20 x 50 runs, trimmed), "
                             "paper (median of 100)")
    parser.add_argument("--sheet", action="store_true",
                        help="also percentiles, load, memory, file sizes, throughput and stages (half a minute each)")
    parser.add_argument("--sustained", type=float, default=0.0, metavar="S",
                        help="with --sheet: run for S seconds without a pause, such as 60")
    parser.add_argument("--fresh", action="store_true", help="measure again instead of reading the cache")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.measure:measure")


def measure(args: argparse.Namespace) -> int:
    """Every network is measured, whatever becomes of the ones before it; 1 when one of them failed."""
    from fastvit.presets import named_config
    from nas.errors import Failure, NotAvailable
    from nas.latency import check_device
    from nas.latency import measure as measured
    from nas.latency.devices import PREDICTED, canonical
    from nas.latency.network import TIMM, Network
    from nas.latency.sheet import words

    named: list[tuple[str, Network]] = []
    for target in args.targets:
        if target.startswith(TIMM):
            network, name = Network.of(target), target
            network.check()
        else:
            name, config = named_config(target)
            network = Network.of(config)
        named.append((name, network))
    try:
        if canonical(args.device) not in PREDICTED:
            check_device(args.device)
    except NotAvailable:
        _convert_only(args, named)
        raise
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, network in named:
        try:
            found = measured(network.target, args.device, resolution=args.resolution, batch=args.batch,
                             threads=args.threads, precision=args.precision, protocol=args.protocol, name=name,
                             fresh=args.fresh)
            params_m, gmacs = network.counted(args.resolution)
            beside = sheet_of(network, args) if args.sheet else None
        except NotAvailable:
            raise
        except Failure as error:
            print(f"search.py: {name}: {error}", file=sys.stderr)
            continue
        kept = {key: value for key, value in found.to_dict().items() if key not in ("samples", "stages_s")}
        rows.append(kept | {"images_per_s": found.images_per_s, "params_m": params_m, "gmacs": gmacs}
                    | ({"sheet": beside.to_dict()} if beside else {}))
        if beside:
            lines += words(name, beside)
    if args.json:
        print(json.dumps(rows))
    elif rows:
        print("\n".join([table(rows), *lines]))
    return 0 if len(rows) == len(named) else 1


def sheet_of(network: Network, args: argparse.Namespace) -> Sheet:
    from nas.latency.devices import canonical, runtime
    from nas.latency.runtime import Setting
    from nas.latency.sheet import sheet

    precision = args.precision or runtime(args.device).precisions[0]
    return sheet(network, canonical(args.device), Setting(args.resolution, args.batch, args.threads, precision),
                 sustained_s=args.sustained)


def _convert_only(args: argparse.Namespace, named: list[tuple[str, Network]]) -> None:
    """What a device that is missing here can still tell: Core ML's packages convert anywhere, and have a size."""
    from nas.errors import Failure
    from nas.latency.devices import canonical, check_setting, runtime
    from nas.latency.runtime import Setting

    if not canonical(args.device).startswith("coreml") or not find_spec("coremltools"):
        return
    from nas.latency.coreml import package_mb, target_of

    chosen = runtime(args.device)
    setting = Setting(args.resolution, args.batch, args.threads, args.precision or chosen.precisions[0])
    check_setting(chosen, setting)
    for name, network in named:
        try:
            text = f"converts for {target_of(setting)}, package of {package_mb(network, setting):.1f} MB"
        except Failure as error:
            text = str(error)
        print(f"{name}: {text}", file=sys.stderr)


def table(rows: list[dict[str, Any]]) -> str:
    """The measurements as text, under one line that says how they came about."""
    one = rows[0]
    how = [one["device"], f"{one['resolution']} px", f"batch {one['batch']}", one["precision"], one["origin"]]
    if one["origin"] == "measured":
        how += [f"{one['threads']} thread{'s' * (one['threads'] > 1)}", one["protocol"], one["runtime"]]
    width = max(12, *(len(row["name"]) + 1 for row in rows))
    lines = [", ".join(how),
             f"{'':<{width}}{'latency ms':>12}{'95 % interval':>20}{'images/s':>10}{'params M':>10}{'GMACs':>8}"]
    for row in rows:
        interval = f"[{row['ci_low_ms']:.3f}, {row['ci_high_ms']:.3f}]"
        lines.append(f"{row['name']:<{width}}{row['latency_ms']:>12.3f}{interval:>20}{row['images_per_s']:>10.1f}"
                     f"{row['params_m']:>10.2f}{row['gmacs']:>8.3f}" + "".join(f"   {flag}" for flag in row["flags"]))
    return "\n".join(lines)
