"""Train a small version of a configuration for a fixed number of steps, and score it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.data import Task
from nas.errors import Failure

WIDTH_SHARE = 4  # widths and head_dim divided by this; depth, ratios, kernels and mixers kept
PIXELS = 48  # larger images are scaled down to this for the proxy
BATCH = 32
PEAK_LR = 2e-3
WARM_UP = 0.1
STEPS = 60


@dataclass(frozen=True)
class ProxyResult:
    """`score` is 1 - NLL / log(classes) on the validation images: 0 at chance, 1 when perfect."""

    score: float
    score_sd: float
    steps: int
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)


def default_steps(task: Task) -> int:
    """Training steps of a proxy on `task` unless the user names others."""
    return STEPS


def shipped_anchor_scores(task: Task, steps: int) -> dict[str, dict[str, Any]]:
    """Scores of the presets that ship with the package for this task and budget, by configuration key."""
    return {}


def proxy_config(config: FastViTConfig) -> FastViTConfig:
    """The lean, narrow, fine-gridded version that is trained in place of `config`."""
    head = max(1, config.head_dim // WIDTH_SHARE)
    widths = tuple(head * max(1, round(w / WIDTH_SHARE / head)) if m == "attention" else max(1, round(w / WIDTH_SHARE))
                   for w, m in zip(config.widths, config.mixers, strict=True))
    return config.replace(widths=widths, head_dim=head, stem_stride=2, branches=0, layer_scale_init=0.1,
                          drop_path=0.0)


def score(config: FastViTConfig, task: Task, *, steps: int, seed: int = 0, checkpoint: Path | None = None,
          on_step: Any = None) -> ProxyResult:
    """Train the proxy of `config` for `steps` steps and score it; the same seed gives every configuration
    the same images in the same order.

    Raises:
        Failure: training diverged.
    """
    import torch
    from torch.nn import functional as F

    from fastvit import FastViT

    begun = time.process_time()
    torch.manual_seed(seed)
    model = FastViT(proxy_config(config), task.num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.05)
    warm = max(1, round(WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))))
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(task.train_labels))
                            for _ in range(math.ceil(steps * BATCH / len(task.train_labels)))])

    def batch(images: np.ndarray, labels: np.ndarray, chosen: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        if x.shape[-1] > PIXELS:
            x = F.interpolate(x, (PIXELS, PIXELS), mode="bilinear", antialias=True)
        return x, torch.from_numpy(labels[chosen]).long()

    curve = []
    for step in range(steps):
        x, y = batch(task.train_images, task.train_labels, order[step * BATCH:(step + 1) * BATCH])
        loss = F.cross_entropy(model(x), y)
        if not math.isfinite(loss.item()):
            raise Failure(f"training diverged at step {step + 1}: the loss is {loss.item()}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append((step + 1, loss.item()))
        if on_step is not None:
            on_step(step + 1, loss.item())
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the recalibration images
    nll = []
    with torch.no_grad():
        for start in range(0, min(1024, len(order)), 128):
            model(batch(task.train_images, task.train_labels, order[start:start + 128])[0])
        model.eval()
        for start in range(0, len(task.val_labels), 256):
            x, y = batch(task.val_images, task.val_labels, slice(start, start + 256))
            nll.append(F.cross_entropy(model(x), y, reduction="none"))
    losses = torch.cat(nll) / math.log(task.num_classes)
    return ProxyResult(score=1 - losses.mean().item(), score_sd=(losses.std() / math.sqrt(len(losses))).item(),
                       steps=steps, seconds=time.process_time() - begun, curve=curve)
