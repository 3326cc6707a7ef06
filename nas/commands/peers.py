"""`search.py peers`: other networks on this device under the same budget, beside what was published of them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.report.peers import Peer


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "peers", help="should it be FastViT at all? others on your device under the budget", allow_abbrev=False,
        description="Measures the FastViT presets and 25 networks of timm on the device, each at the resolution that "
                    "it was published for, and sets their published ImageNet top-1 beside it. Nothing is trained.")
    parser.add_argument("--budget-ms", type=float, required=True, metavar="MS", help="latency budget in milliseconds")
    parser.add_argument("--device", default="onnxruntime", help="where (`search.py devices`; default onnxruntime)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the runtime (default 1)")
    parser.add_argument("--precision", help="number format, of those that `search.py devices` lists for the device")
    parser.add_argument("--minutes", type=float, default=3.0, metavar="M",
                        help="begin no measurement later; those nearest to the budget come first (default 3)")
    parser.add_argument("--fresh", action="store_true", help="measure again instead of reading the cache")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.peers:peers")


def peers(args: argparse.Namespace) -> int:
    """Print the table and the verdict; 1 when nothing could be measured."""
    import math

    from nas.errors import UsageError
    from nas.latency import Measurement, check_device, measure
    from nas.latency.devices import PREDICTED, canonical
    from nas.report import peers as report

    for name in ("budget_ms", "minutes"):
        value = getattr(args, name)
        if not math.isfinite(value) or value <= 0:
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: expected a positive number")
    if canonical(args.device) in PREDICTED:
        raise UsageError(f"--device {args.device}: it predicts FastViTs alone; peers have to be measured, on one of "
                         "the other devices of `search.py devices`")
    check_device(args.device)

    def one(peer: Peer) -> Measurement:
        return measure(peer.target, args.device, resolution=peer.resolution, threads=args.threads,
                       precision=args.precision, budget_ms=args.budget_ms, fresh=args.fresh, name=peer.name)

    found = report.measured(report.peers(), args.budget_ms, one, 60 * args.minutes,
                            lambda line: print(line, file=sys.stderr))
    sentences = report.verdict(found, args.budget_ms)
    if args.json:
        print(json.dumps({"device": args.device, "budget_ms": args.budget_ms, "verdict": sentences,
                          "networks": [_row(peer, args.budget_ms) for peer in found]}))
    else:
        print(table(found, args.budget_ms))
        print()
        for sentence in sentences:
            print(sentence)
    return 0 if any(peer.measured for peer in found) else 1


def _row(peer: Peer, budget_ms: float) -> dict[str, Any]:
    one = peer.measured
    kept = {} if one is None else {key: value for key, value in one.to_dict().items()
                                   if key not in ("samples", "stages_s", "name")}
    figures = {kind: figure and {"top1": figure.top1, "source": figure.source, "note": figure.note}
               for kind, figure in (("published", peer.plain), ("published_distilled", peer.distilled))}
    return {"name": peer.name, "fastvit": peer.is_fastvit, "resolution": peer.resolution, "params_m": peer.params_m,
            "gmacs": peer.gmacs, **figures, "measured": kept or None, "meets_budget": peer.meets(budget_ms),
            "why_not_measured": peer.why or None}


def table(found: list[Peer], budget_ms: float) -> str:
    """The networks by measured latency, the budget as a line between them; then those that were not measured."""
    shown = sorted((peer for peer in found if peer.measured), key=lambda peer: peer.measured.latency_ms)  # type: ignore[union-attr]
    how = ""
    if shown and (first := shown[0].measured) is not None:
        how = (f"{first.device}, batch {first.batch}, {first.precision}, {first.threads} thread"
               f"{'s' * (first.threads > 1)}, {first.protocol}, {first.runtime}")
    lines = [f"Latency: measured here ({how}). ImageNet top-1: published by the source named, not trained here; *: "
             "trained with a teacher.",
             f"{'':<24}{'px':>5}{'latency ms':>12}{'95 % interval':>18}{'top-1':>7}{'top-1*':>8}  source"]
    over = False
    for peer in shown:
        one = peer.measured
        assert one is not None
        if not over and one.latency_ms > budget_ms:
            over = True
            lines.append(f"{'--- ' + f'{budget_ms:g} ms ':-<44}")
        figures = [f"{figure.top1:.1f}" if figure else "" for figure in (peer.plain, peer.distilled)]
        sources = dict.fromkeys(figure.source for figure in (peer.plain, peer.distilled) if figure)
        interval = f"[{one.ci_low_ms:.2f}, {one.ci_high_ms:.2f}]"
        flags = "".join(f"  ({flag})" for flag in one.flags if flag != "early")
        lines.append(f"{peer.name:<24}{peer.resolution:>5}{one.latency_ms:>12.2f}{interval:>18}{figures[0]:>7}"
                     f"{figures[1]:>8}  {'; '.join(sources)}{flags}")
    lines += [f"{peer.name:<24}{peer.resolution:>5}  {peer.why}" for peer in found if not peer.measured]
    return "\n".join(lines)
