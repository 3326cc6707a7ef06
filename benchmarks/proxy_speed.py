"""Training images per second: the proxy's trainer against a plain loop over timm's model of the same shape.

    python benchmarks/proxy_speed.py [--configs t8,sa12] [--data builtin]

Both train the same narrowed configuration on the same images at the same size, one thread, interleaved in one run.
The plain loop is what one writes first: timm's FastVit in its training form, AdamW as it comes, cross-entropy, images
in torch's default layout. The trainer's step holds more (dense heads, averaged weights, clipping, finding the images);
between the two stands the plain loop over our lean form, which tells form from loop. The last column is the share of
the trainer's step that finding its images takes once they were drawn, or decoded, for the first time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import numpy as np
import timm
import torch
from common import shown, side_by_side, training_step
from torch import nn

from fastvit import PRESETS, FastViT, FastViTConfig
from fastvit.timm import expressible_in_timm
from nas.data import Task, load_task
from nas.latency.runtime import Calls
from nas.proxy.net import proxy_config
from nas.proxy.train import BATCH, Trainer

STEPS = 20  # whose images are asked for again, to see how long that takes


def plain(model: nn.Module, task: Task, pixels: int) -> Callable[[], None]:
    numbers = count()

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        first = next(numbers) * BATCH
        found = task.train.batch(np.arange(first, first + BATCH) % len(task.train), pixels)
        images = torch.from_numpy(found.images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        return images, torch.from_numpy(found.labels).long()

    return training_step(model, batch, lr=3e-3)


def timm_model(config: FastViTConfig, classes: int) -> nn.Module:
    """timm's network of the narrowed configuration, in its training form (its attention heads are 32 wide, not 8)."""
    found = expressible_in_timm(proxy_config(config, branches=1).replace(stem_stride=4, head_dim=32))
    assert found is not None, "timm has no such network"
    model = timm.create_model(found[0], num_classes=classes, **found[1])
    for module in model.stem[1].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)  # as the proxy's stem, which leaves small images twice the cells
    return model


def further(trainer: Trainer) -> None:
    trainer.to(trainer.step + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="t8,sa12", help="presets")
    parser.add_argument("--data", default="builtin", help="builtin, shapes, digits or a folder of images")
    parser.add_argument("--seconds", type=float, default=25.0, help="at most, for each of them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task(args.data, resolution=64)
    print("| proxy of | trainer, images/s | trainer / plain timm | plain loop over lean / plain timm | images |")
    print("|---|---|---|---|---|")
    for name in args.configs.split(","):
        config = PRESETS[name]
        trainer = Trainer(config, task)
        steps = [partial(further, trainer),
                 plain(FastViT(proxy_config(config), task.num_classes), task, trainer.pixels),
                 plain(timm_model(config, task.num_classes), task, trainer.pixels)]
        sessions = [Calls(step, "cpu") for step in steps]
        ms, ratios = side_by_side(sessions[:-1], sessions[-1], cap_s=args.seconds)
        faster = [(1 / ratio, 1 / high, 1 / low) for ratio, low, high in ratios]
        rate = BATCH / ms * 1e3 * faster[0][0]
        begun = time.process_time()
        for step in range(STEPS):
            task.train.batch(np.arange(step * BATCH, (step + 1) * BATCH) % len(task.train), trainer.pixels)
        finding = (time.process_time() - begun) / STEPS * rate / BATCH
        print(f"| {name.upper()} | {rate:.0f} | {shown(faster[0])} | {shown(faster[1])} | {100 * finding:.1f} % |",
              flush=True)


if __name__ == "__main__":
    main()
