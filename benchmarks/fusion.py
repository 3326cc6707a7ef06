"""What complete fusion buys: ours, unfused, and timm's fused form side by side.

    python benchmarks/fusion.py [--resolution 256] [--presets t8,sa12] [--seconds 4]

Ratios are latency over that of our fused form, with 95 % intervals, one thread, one interleaved session a row:
above 1 means slower than ours.
"""

from __future__ import annotations

import argparse

import timm
import torch
from common import eager, onnxruntime, shown, side_by_side
from timm.utils.model import reparameterize_model

from fastvit import PRESETS, FastViT, reparameterize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seconds", type=float, default=4.0, help="at most, for each network of a session")
    args = parser.parse_args()
    image = torch.randn(1, 3, args.resolution, args.resolution, generator=torch.Generator().manual_seed(0))
    print("| preset | runtime | ours fused, ms | unfused / ours | timm fused / ours |\n|---|---|---|---|---|")
    slower = []
    for name in args.presets.split(","):
        ours = FastViT(PRESETS[name], num_classes=1000).eval()
        theirs = timm.create_model(f"fastvit_{name}", num_classes=1000).eval()
        forms = [ours, reparameterize_model(theirs), reparameterize(ours)]
        for runtime in (onnxruntime, eager):
            sessions = [runtime(form, image) for form in forms]
            ms, (unfused, stock) = side_by_side(sessions[:2], sessions[2], cap_s=args.seconds)
            print(f"| {name.upper()} | {runtime.__name__} | {ms:.2f} | {shown(unfused)} | {shown(stock)} |", flush=True)
            if stock[2] < 1:
                slower.append(f"{name} in {runtime.__name__}")
    print(f"\nours slower than timm's fused form beyond the interval: {', '.join(slower) or 'never'}")


if __name__ == "__main__":
    main()
