"""Full-width networks trained from random weights on real images: the rows that estimates of accuracy are judged by.

The recipe (TRUTH) never changes, so that rows made months apart compare: the lean form in channels-last, AdamW with a
cosine schedule to zero from 1e-3 after 5 % of warm-up, flips and shifts, label smoothing 0.1, no averaged weights,
top-1 of the last step on test images that nothing else sees. One JSON object a line in real_images.jsonl, without
images.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastvit.config import FastViTConfig
from nas.errors import Failure, UsageError
from nas.files import cache_folder, write_atomic

TRUTH = "lean-adamw-1"
BATCH = 64
LEARNING_RATE, WEIGHT_DECAY, WARM_UP, SMOOTHING = 1e-3, 0.05, 0.05, 0.1
TESTS = ("test", "val", "validation")
_SAVED_EVERY = 200  # steps


@dataclass(frozen=True)
class Images:
    """uint8 images (N, S, S, 3) with labels (N,), for training and for testing."""

    name: str
    classes: int
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    @property
    def pixels(self) -> int:
        return int(self.train[0].shape[1])


def read_images(folder: Path, pixels: int) -> Images:
    """train/ and test/ (else val/ or validation/) of a folder, one folder a class; decoded once and cached.

    Raises:
        UsageError: one of them is missing, or holds no images.
    """
    test = next((folder / name for name in TESTS if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or test is None:
        raise UsageError(f"--data {folder}: expected train/ and test/ with one folder a class")
    train, held = (_decoded(part, pixels) for part in (folder / "train", test))
    return Images(folder.resolve().name, int(train[1].max()) + 1, train, held)


def _decoded(part: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image, ImageOps

    path = cache_folder("truth") / f"{part.parent.resolve().name}-{part.name}-{pixels}.npz"
    if path.exists():
        with np.load(path) as file:
            return file["images"], file["labels"]
    images, labels = [], []
    for label, folder in enumerate(sorted(child for child in part.iterdir() if child.is_dir())):
        for file in sorted(folder.iterdir()):
            try:
                with Image.open(file) as image:
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                    images.append(np.asarray(ImageOps.fit(upright, (pixels, pixels), Image.Resampling.BICUBIC)))
            except (OSError, SyntaxError):
                continue
            labels.append(label)
    if not images:
        raise UsageError(f"--data {part}: no image in it can be read")
    content = io.BytesIO()
    np.savez(content, images=np.stack(images), labels=np.array(labels))
    write_atomic(path, content.getvalue())
    return np.stack(images), np.array(labels)


@dataclass(frozen=True)
class Reached:
    """Top-1 in percent on the test images, its sampling error, and the CPU-seconds that it took."""

    top1: float
    se: float
    cpu_seconds: float


def train_whole(config: FastViTConfig, images: Images, *, steps: int, seed: int = 0, checkpoint: Path | None = None,
                until: float = math.inf, say: Callable[[int], Any] = lambda step: None) -> Reached | None:
    """Train `config` at full width from random weights for `steps` steps and test it.

    Args:
        checkpoint: goes on from there, and is left there now and then until the end.
        until: time.monotonic() after which training stops where it is and None is returned.

    Raises:
        Failure: training diverged.
    """
    import torch
    from torch.nn import functional as F

    from fastvit import FastViT

    torch.manual_seed(seed)
    model = FastViT(config.replace(branches=0), images.classes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    x, y = images.train
    batch = min(BATCH, len(y))
    pad, rng, step, spent, queue = images.pixels // 8, np.random.default_rng(seed), 0, 0.0, np.zeros((0, batch), int)
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if saved["steps"] == steps:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            step, spent, queue = saved["step"], saved["spent"], saved["queue"].numpy()
            rng.bit_generator.state = saved["rng"]

    def tensor(some: np.ndarray) -> torch.Tensor:
        # A permuted view of (B, H, W, 3) is channels-last already.
        return torch.from_numpy(np.ascontiguousarray(some)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def save() -> None:
        if checkpoint is not None:
            content = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "steps": steps,
                        "spent": spent + time.process_time() - begun, "queue": torch.from_numpy(queue),
                        "rng": rng.bit_generator.state}, content)
            write_atomic(checkpoint, content.getvalue())

    begun = time.process_time()
    while step < steps:
        if not len(queue):
            queue = rng.permutation(len(y))[:len(y) // batch * batch].reshape(-1, batch)
        chosen, queue = queue[0], queue[1:]
        rate = LEARNING_RATE * min(1, (step + 1) / (WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        some = x[chosen]
        flip = rng.random(batch) < 0.5
        some[flip] = some[flip, :, ::-1]
        some = np.pad(some, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        i, j = rng.integers(0, 2 * pad + 1, 2)
        some = some[:, i:i + images.pixels, j:j + images.pixels]
        loss = F.cross_entropy(model(tensor(some)), torch.from_numpy(y[chosen]).long(), label_smoothing=SMOOTHING)
        if not math.isfinite(value := loss.item()):
            raise Failure(f"training diverged at step {step + 1}: the loss is {value}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        say(step)
        if step % _SAVED_EVERY == 0:
            save()
        if time.monotonic() > until and step < steps:
            save()
            return None
    model.eval()
    with torch.no_grad():
        tx, ty = images.test
        hit = np.concatenate([model(tensor(tx[k:k + 200])).argmax(1).numpy() == ty[k:k + 200]
                              for k in range(0, len(ty), 200)])
    spent += time.process_time() - begun
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return Reached(100 * float(hit.mean()), 100 * float(hit.std() / math.sqrt(len(hit))), spent)
