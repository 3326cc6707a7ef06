"""What over-parameterization costs in training time: seconds of a training step by number of branches.

    python benchmarks/branches.py [--presets sa12,sa36] [--resolution 128] [--batch 4]

Ratios to plain convolution and BatchNorm (branches 0); 1 is the published, over-parameterized form, for which
the paper reports +6.7 % for SA12 and +4.4 % for SA36, on eight GPUs at 256 px.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from common import shown, side_by_side, training_step

from fastvit import PRESETS, FastViT, FastViTConfig
from nas.latency.runtime import Calls


def step(config: FastViTConfig, image: torch.Tensor) -> Callable[[], None]:
    labels = torch.arange(len(image)) % 100
    return training_step(FastViT(config, num_classes=100), lambda: (image, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="sa12,sa36")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=25.0, help="at most, for each form")
    args = parser.parse_args()
    torch.set_num_threads(1)
    image = torch.randn(args.batch, 3, args.resolution, args.resolution)
    counts = (1, 2, 4)
    print("| preset | plain, s a step | " + " | ".join(f"{n} branches / plain" for n in counts) + " |")
    print("|---|---|" + "---|" * len(counts))
    for name in args.presets.split(","):
        sessions = [Calls(step(PRESETS[name].replace(branches=n), image), "cpu") for n in (*counts, 0)]
        ms, ratios = side_by_side(sessions[:-1], sessions[-1], cap_s=args.seconds)
        print(f"| {name.upper()} | {ms / 1e3:.2f} | " + " | ".join(map(shown, ratios)) + " |", flush=True)


if __name__ == "__main__":
    main()
