"""A stand-in for timm's train.py, which timm's wheel does not carry: one process, no logging, no resuming.

It takes the script's arguments under the script's names, a YAML file of them with --config (unknown keys are refused),
and does with them what the script does, by the same functions of timm: create_model, resolve_data_config,
create_dataset, create_loader, Mixup, optimizer_kwargs, scheduler_kwargs, ModelEmaV3, autocast, CheckpointSaver. What
only the script itself holds (its argument parser, its loops) is written anew here, so a change of those goes unseen.
"""

from __future__ import annotations

import argparse
import ast
import sys
from typing import Any

import timm.data
import timm.loss
import timm.optim
import timm.scheduler
import timm.utils
import torch
import yaml


def _kwargs(words: list[str]) -> dict[str, Any]:
    return {key: ast.literal_eval(value) for key, value in (word.split("=") for word in words)}


def _parse() -> argparse.Namespace:
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("-c", "--config")
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    for name in ("data-dir", "model", "opt", "sched", "remode", "aa", "interpolation", "train-interpolation",
                 "amp-dtype", "device", "output", "experiment", "initial-checkpoint", "gp"):
        add(f"--{name}")
    for name in ("lr", "weight-decay", "momentum", "min-lr", "warmup-lr", "drop", "drop-path", "clip-grad", "hflip",
                 "color-jitter", "reprob", "mixup", "cutmix", "mixup-prob", "smoothing", "model-ema-decay", "crop-pct"):
        add(f"--{name}", type=float)
    for name in ("num-classes", "epochs", "batch-size", "warmup-epochs", "seed", "workers"):
        add(f"--{name}", type=int)
    for name in ("amp", "model-ema", "pretrained", "grad-checkpointing", "torchscript"):
        add(f"--{name}", action="store_true")
    for name, kind in (("mean", float), ("std", float), ("scale", float), ("ratio", float), ("input-size", int)):
        add(f"--{name}", type=kind, nargs="+")
    add("--model-kwargs", nargs="*", default={}, action=type("", (argparse.Action,), {
        "__call__": lambda self, parser, namespace, values, option=None: setattr(
            namespace, self.dest, _kwargs(values))}))
    parser.set_defaults(opt="sgd", sched="cosine", momentum=0.9, drop=0.0, gp=None, device="cpu", workers=0, seed=42,
                        remode="pixel", reprob=0.0, color_jitter=0.4, hflip=0.5, output="./output/train",
                        mixup=0.0, cutmix=0.0, mixup_prob=1.0, smoothing=0.1)
    given, rest = config.parse_known_args()
    if given.config:
        with open(given.config, encoding="utf-8") as file:
            values = yaml.safe_load(file)
        if unknown := set(values) - {action.dest for action in parser._actions}:
            parser.error(f"unknown keys in {given.config}: {', '.join(sorted(unknown))}")
        parser.set_defaults(**values)
    return parser.parse_args(rest)


def main() -> None:
    args = _parse()
    device = torch.device(args.device)
    timm.utils.random_seed(args.seed, 0)
    model = timm.create_model(
        args.model, pretrained=args.pretrained, in_chans=args.input_size[0], num_classes=args.num_classes,
        drop_rate=args.drop, drop_path_rate=args.drop_path, drop_block_rate=None, global_pool=args.gp, bn_momentum=None,
        bn_eps=None, scriptable=args.torchscript, checkpoint_path=args.initial_checkpoint or "", **args.model_kwargs)
    if args.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    data = timm.data.resolve_data_config(vars(args), model=model, verbose=False)
    model.to(device)
    if args.torchscript:
        model = torch.jit.script(model)
    optimizer = timm.optim.create_optimizer_v2(model, **timm.optim.optimizer_kwargs(cfg=args))
    average = timm.utils.ModelEmaV3(model, decay=args.model_ema_decay) if args.model_ema else None
    train, held = (timm.data.create_dataset("", root=args.data_dir, split=split, is_training=split == "train",
                                            batch_size=args.batch_size) for split in ("train", "validation"))
    mixed = args.mixup > 0 or args.cutmix > 0
    mix = timm.data.Mixup(mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, prob=args.mixup_prob,
                          label_smoothing=args.smoothing, num_classes=args.num_classes)
    common = {"input_size": data["input_size"], "batch_size": args.batch_size, "mean": data["mean"], "std": data["std"],
              "num_workers": args.workers, "device": device, "use_prefetcher": False, "persistent_workers": False}
    batches = timm.data.create_loader(
        train, is_training=True, re_prob=args.reprob, re_mode=args.remode, scale=args.scale, ratio=args.ratio,
        hflip=args.hflip, color_jitter=args.color_jitter, auto_augment=args.aa,
        interpolation=args.train_interpolation or data["interpolation"], **common)
    checks = timm.data.create_loader(held, is_training=False, interpolation=data["interpolation"],
                                     crop_pct=data["crop_pct"], **common)
    schedule, epochs = timm.scheduler.create_scheduler_v2(
        optimizer, **timm.scheduler.scheduler_kwargs(args), updates_per_epoch=len(batches))
    loss_of: Any = timm.loss.SoftTargetCrossEntropy() if mixed else timm.loss.LabelSmoothingCrossEntropy(args.smoothing)
    saver = timm.utils.CheckpointSaver(model=model, optimizer=optimizer, args=args, model_ema=average,
                                       checkpoint_dir=args.output, recovery_dir=args.output)
    dtype = torch.bfloat16 if args.amp_dtype == "bfloat16" else torch.float16
    for epoch in range(epochs):
        model.train()
        for images, labels in batches:
            images, labels = mix(images, labels) if mixed else (images, labels)
            with torch.autocast(device.type, dtype=dtype, enabled=args.amp):
                loss = loss_of(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            if args.clip_grad is not None:
                timm.utils.dispatch_clip_grad(model.parameters(), args.clip_grad)
            optimizer.step()
            if average is not None:
                average.update(model)
        model.eval()
        with torch.inference_mode():
            hits = [timm.utils.accuracy(model(images), labels)[0].item() for images, labels in checks]
        schedule.step(epoch + 1, hits[0])
        saver.save_checkpoint(epoch, metric=hits[0])
        print(f"epoch {epoch} loss {loss.item():.3f} top1 {hits[0]:.1f}")


if __name__ == "__main__":
    sys.exit(main())
