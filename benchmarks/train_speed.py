"""Images per second of `search.py train`, by form, against what it was before and against timm's plain loop.

    python benchmarks/train_speed.py [--data DIR] [--network t8] [--resolution 96] [--batch 64] [--steps 12]

Without --data, the photographs of ../shared/data/clothing160, or, where they are not there, drawn pictures. "Before"
is the loop that decodes each image whenever it is asked for and trains the published form in torch's default layout.
timm's plain loop: create_loader with the same augmentation (no prefetcher, as on a CPU), Mixup, AdamW, cosine
schedule and EMA, one process, no checkpoint. Rounds alternate, so that a busy machine hits all alike; printed are
medians over rounds of images per second of wall time, and of process time where the device is a CPU. Decoding once is
printed apart.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from safetensors.torch import save_file

from fastvit import PRESETS, FastViT
from nas.data.folder import open_folder
from nas.data.pictures import decoded, open_images
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


def ours(job: Job, *, before: bool = False) -> tuple[float, float]:
    """Seconds of wall and process time of one epoch's steps, after one step of warm-up."""
    import nas.train.loop as module

    if before:
        with patch.object(module, "decoded", lambda data, _: (data, ())), patch.object(
                module, "channels_last", lambda _: None):
            loop = Loop(Fabric(accelerator="auto", devices=1), job)
        loop.channels_last = loop.fabric.device.type == "cuda"
    else:
        loop = Loop(Fabric(accelerator="auto", devices=1), job)
    loop._end_epoch = lambda log: None  # type: ignore[method-assign]
    loop._save = lambda: None  # type: ignore[method-assign]
    batches = loop.batches
    first = iter(module.train_loader(loop.data, batches, job.mean, job.std, 0, False))
    float(loop._update(first))
    begun = time.perf_counter(), time.process_time()
    loop._train(Silent())  # type: ignore[arg-type]
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def plain(folder: Path, network: FastViT, recipe: Recipe, device: torch.device, steps: int) -> tuple[float, float]:
    """The same for timm's loop, of so many steps."""
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
    mix, criterion = Mixup(recipe.mixup, recipe.cutmix, num_classes=network.num_classes), SoftTargetCrossEntropy()
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
    for step, (images, labels) in zip(range(1, steps + 1), loader, strict=False):
        update(images, labels, step)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def decoding(data: str, recipe: Recipe) -> str:
    """How long decoding once takes, in words."""
    cache = os.environ.get("FASTVIT_EXPLORER_CACHE")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["FASTVIT_EXPLORER_CACHE"] = empty
        begun = time.process_time()
        found, _ = decoded(open_images(data, recipe.resolution), recipe)
        spent = time.process_time() - begun
        size = sum(path.stat().st_size for path in Path(empty).rglob("*.u8"))
    if cache is None:
        del os.environ["FASTVIT_EXPLORER_CACHE"]
    else:
        os.environ["FASTVIT_EXPLORER_CACHE"] = cache
    count = len(found.train) + len(found.val)
    return f"decoding {count} images once: {spent:.1f} process-seconds, {size / 1e6:.0f} MB in the cache"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/clothing160")
    parser.add_argument("--network", default="t8", choices=tuple(PRESETS))
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    images = args.batch * args.steps
    # Magnitude 7 instead of 9: at 10, which 9 draws now and then, timm 1.0.31 fails with Pillow 13 (posterize).
    recipe = Recipe(epochs=1, batch_size=args.batch, resolution=args.resolution, warmup_epochs=0,
                    aa="rand-m7-mstd0.5-inc1", epoch_images=images)
    with tempfile.TemporaryDirectory() as out:
        data = args.data
        if not Path(data).is_dir():
            print(f"{data} is not there: drawn pictures in its place\n")
            data = str(Path(out) / "data")
            pictures(Path(data), images + args.batch, 2 * args.resolution)
        there = open_folder(data, 0)
        classes = len(there.class_names)
        jobs, configs = {}, {"published": PRESETS[args.network], "lean": PRESETS[args.network].replace(branches=0)}
        for form, config in configs.items():
            start = Path(out) / f"{form}.safetensors"
            torch.manual_seed(0)
            save_file(FastViT(config, classes).state_dict(), start)
            jobs[form] = Job("bench", config.to_dict(), str(start), classes, MEAN, STD, data, recipe.to_dict(), out)
        device = Fabric(accelerator="auto", devices=1).device
        assert there.splits.train is not None
        loops: dict[str, Callable[[], tuple[float, float]]] = {
            "before": partial(ours, jobs["published"], before=True),
            "train, published form": partial(ours, jobs["published"]),
            "train --form lean": partial(ours, jobs["lean"]),
            "timm's plain loop": lambda: plain(Path(data), FastViT(configs["published"], classes), recipe, device,
                                               args.steps)}
        if there.splits.train.name != "train":
            del loops["timm's plain loop"]  # whose reader needs that name
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
        for _ in range(args.rounds):
            for name, loop in loops.items():
                rates[name].append(loop())
        print(f"{args.network}, {there.name}, {args.resolution} px, batch {args.batch}, {args.steps} steps, "
              f"{device.type}, {torch.get_num_threads()} threads; {decoding(data, recipe)}\n\n"
              "| loop | images/s | images per process-second | to before |\n|---|---|---|---|")
        middle = {name: median(images / cpu for _, cpu in found) for name, found in rates.items()}
        for name, found in rates.items():
            print(f"| {name} | {median(images / wall for wall, _ in found):.1f} | {middle[name]:.1f} | "
                  f"{middle[name] / middle['before']:.2f} |")


if __name__ == "__main__":
    main()
