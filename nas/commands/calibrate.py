"""`search.py calibrate`: teach the predictor of a device what networks cost on it."""

from __future__ import annotations

import argparse
import json
import sys


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "calibrate", help="fit the latency predictor of a device", allow_abbrev=False,
        description="Measure designed networks for a minute, fit the predictor to them and keep it on this machine. "
                    "Searches on this device then begin with it. Calling it again adds to what it knows.")
    parser.add_argument("--device", default="onnxruntime", help="where (`search.py devices`)")
    parser.add_argument("--resolution", type=int, default=256, metavar="PX", help="input size (default 256)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at once (default 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--precision", help="number format, of those of the device")
    parser.add_argument("--space", default="default", help="whose networks: a shipped space or a TOML file")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long (default 60)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.calibrate:run")


def run(args: argparse.Namespace) -> int:
    from nas.errors import UsageError
    from nas.latency import check_device
    from nas.latency.calibration import calibrate
    from nas.latency.devices import check_setting, runtime
    from nas.latency.runtime import Setting
    from space import SearchSpace

    if not args.seconds > 0:
        raise UsageError(f"--seconds {args.seconds:g}: expected a number above 0")
    space = SearchSpace.load(args.space)
    check_device(args.device)
    chosen = runtime(args.device)
    setting = Setting(args.resolution, args.batch, args.threads, args.precision or chosen.precisions[0])
    check_setting(chosen, setting)

    def tell(networks: int, spent: float) -> None:
        print(f"\r{networks} networks, {spent:.0f} of {args.seconds:g} s", end="", file=sys.stderr, flush=True)

    found = calibrate(args.device, setting, space=space, seconds=args.seconds, tell=tell)
    print(file=sys.stderr)
    known = {"device": found.predictor.device, "resolution": setting.resolution, "batch": setting.batch,
             "threads": setting.threads, "precision": setting.precision, "networks": len(found.predictor.configs),
             "seconds": round(found.seconds, 1), "failed": found.failed, "mape": found.mape}
    if args.json:
        print(json.dumps(known))
    else:
        print(f"{known['device']}, {setting.resolution} px: {known['networks']} networks known; error on those that a "
              f"fit had not seen {100 * found.mape:.1f} % (mean of ten folds)")
    return 0
