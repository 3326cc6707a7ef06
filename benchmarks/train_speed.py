"""Images per second of `search.py train` against timm's plain loop on the same network, images and device.

    python benchmarks/train_speed.py [--network t8] [--resolution 64] [--batch 32] [--steps 20] [--rounds 3]

timm's plain loop: create_loader with the same augmentation (no prefetcher, as on a CPU), Mixup, AdamW, cosine
schedule and EMA, one process, no checkpoint. Rounds alternate, so that a busy machine hits both alike; printed
are medians over rounds of images per second of wall time, and of process time where the device is a CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from safetensors.torch import save_file

from fastvit import PRESETS, FastViT
from nas.export.variant import MEAN, STD
from nas.recipe import Recipe
from nas.train.loop import Job, Loop


def pictures(folder: Path, count: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for part, number in (("train", count), ("val", 8)):
        for name in "ab":
            (folder / part / name).mkdir(parents=True)
            for index in range(number // 2):
                small = Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8))
                small.resize((side, side)).save(folder / part / name / f"{index}.jpg")


class Silent:
    """A log that does nothing: the loop alone is timed."""

    def step(self, *_: Any) -> None: ...

    def epoch(self, *_: Any) -> None: ...


def ours(job: Job) -> tuple[float, float]:
    """Seconds of wall and process time of one epoch's steps, after one step of warm-up."""
    import nas.train.loop as module

    loop = Loop(Fabric(accelerator="auto", devices=1), job)
    loop._end_epoch = lambda log: None  # type: ignore[method-assign]
    loop._save = lambda: None  # type: ignore[method-assign]
    batches = loop.batches
    first = iter(module.train_loader(loop.data, batches, job.mean, job.std, 0, False))
    float(loop._update(first))
    begun = time.perf_counter(), time.process_time()
    loop._train(Silent())  # type: ignore[arg-type]
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def plain(folder: Path, network: FastViT, recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """The same for timm's loop."""
    from timm.data import Mixup, create_dataset, create_loader
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3

    dataset = create_dataset("", root=str(folder), split="train")
    loader = create_loader(dataset, (3, recipe.resolution, recipe.resolution), recipe.batch_size, is_training=True,
                           use_prefetcher=False, re_prob=recipe.reprob, re_mode=recipe.remode, scale=recipe.scale,
                           hflip=recipe.hflip, auto_augment=recipe.aa, interpolation="random", mean=MEAN, std=STD,
                           num_workers=0, persistent_workers=False)
    model = network.to(device)
    optimizer = create_optimizer_v2(model, opt=recipe.opt, lr=recipe.lr, weight_decay=recipe.weight_decay)
    scheduler, _ = create_scheduler_v2(optimizer, num_epochs=1, step_on_epochs=False, updates_per_epoch=len(loader))
    mix, criterion = Mixup(recipe.mixup, recipe.cutmix, num_classes=2), SoftTargetCrossEntropy()
    ema = ModelEmaV3(model, decay=recipe.model_ema_decay)

    def update(images: torch.Tensor, labels: torch.Tensor, step: int) -> None:
        images, target = mix(images.to(device), labels.to(device))
        loss = criterion(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model, step)
        loss.item()
        scheduler.step_update(step)

    model.train()
    update(*next(iter(loader)), 0)
    begun = time.perf_counter(), time.process_time()
    for step, (images, labels) in enumerate(loader, 1):
        update(images, labels, step)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="t8", choices=tuple(PRESETS))
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = PRESETS[args.network]
    images = args.batch * args.steps
    # Magnitude 7 instead of 9: at 10, which 9 draws now and then, timm 1.0.31 fails with Pillow 13 (posterize).
    recipe = Recipe(epochs=1, batch_size=args.batch, resolution=args.resolution, warmup_epochs=0,
                    aa="rand-m7-mstd0.5-inc1")
    rates: dict[str, list[tuple[float, float]]] = {"search.py train": [], "timm's plain loop": []}
    with tempfile.TemporaryDirectory() as out:
        pictures(Path(out) / "data", images, 2 * args.resolution)
        start = Path(out) / "start.safetensors"
        torch.manual_seed(0)
        save_file(FastViT(config, 2).state_dict(), start)
        job = Job("bench", config.to_dict(), str(start), 2, MEAN, STD, str(Path(out) / "data"), recipe.to_dict(), out)
        device = Fabric(accelerator="auto", devices=1).device
        for _ in range(args.rounds):
            rates["search.py train"].append(ours(job))
            rates["timm's plain loop"].append(plain(Path(out) / "data", FastViT(config, 2), recipe, device))
    print(f"{args.network}, {args.resolution} px, batch {args.batch}, {args.steps} steps, {device.type}\n\n"
          "| loop | images/s | images per process-second |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {median(images / wall for wall, _ in found):.1f} | "
              f"{median(images / cpu for _, cpu in found):.1f} |")


if __name__ == "__main__":
    main()
