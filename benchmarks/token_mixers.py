"""The paper's Figure 3 on this CPU: RepMixer against pooling in the 12-block model, by resolution.

    python benchmarks/token_mixers.py [--resolutions 224,384,512,768,1024] [--seconds 6]

Published on a phone: RepMixer is 25 % faster at 384 px and 44 % at 1024 px.
"""

from __future__ import annotations

import argparse

import torch
from common import eager, onnxruntime, shown, side_by_side

from fastvit import PRESETS, FastViT, reparameterize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolutions", default="224,384,512,768,1024")
    parser.add_argument("--seconds", type=float, default=6.0, help="at most, for each network of a session")
    args = parser.parse_args()
    base = PRESETS["s12"]
    forms = {mixer: reparameterize(FastViT(base.replace(mixers=(mixer,) * 4))) for mixer in ("repmixer", "pool")}
    print("| resolution | runtime | pooling, ms | RepMixer / pooling |\n|---|---|---|---|")
    for side in map(int, args.resolutions.split(",")):
        image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        for runtime in (onnxruntime, eager):
            ms, (ratio,) = side_by_side([runtime(forms["repmixer"], image)], runtime(forms["pool"], image),
                                        cap_s=args.seconds)
            print(f"| {side} | {runtime.__name__} | {ms:.1f} | {shown(ratio)} |", flush=True)


if __name__ == "__main__":
    main()
