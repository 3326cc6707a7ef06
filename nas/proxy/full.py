"""Full-width networks trained on images: the lean form, so that every point of a front can be a trained network.

The recipe is that of a short run on natural images (docs/LOG.md): AdamW, cosine, mirrored and shifted images, smoothed
labels. A training goes on from its checkpoint as if it had never been interrupted: what a step sees depends on the
seed and the step's number alone.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from fastvit import FastViT
from fastvit.config import FastViTConfig
from nas.errors import Failure
from nas.files import write_atomic
from nas.proxy.full_recipe import BATCH, FullRecipe, lean
from nas.proxy.train import VALIDATION_IMAGES
from nas.quiet import paced

if TYPE_CHECKING:
    from nas.data import Task

WARM_UP_SHARE = 0.05  # of all steps
SHIFT = 8  # images are shifted by up to their side divided by this
CLIP_NORM = 5.0
CALIBRATION_IMAGES = 1024
EVALUATE_IMAGES = 128  # at once
HELD_OUT_IMAGES, RUNG_IMAGES = 10_000, 1000  # at most
SAVE_EVERY_S = 60.0
PART_SIDE = 128  # a whole batch of larger images would take gigabytes of each worker


class FullTrainer:
    """One network in training on a task's images. `to(step)` goes on to that step.

    Args:
        start: writes first weights into the network and says what they are; None leaves them random.
    """

    def __init__(self, config: FastViTConfig, task: Task, recipe: FullRecipe, *,
                 start: Callable[[FastViT], str] | None = None, device: str | None = None) -> None:
        self.task, self.recipe, self.config = task, recipe, lean(config, recipe)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(recipe.seed)
        net = FastViT(self.config, task.num_classes)
        self.started_from = "random weights" if start is None else start(net)
        # Channels-last trains the lean form 1.9 times faster on a CPU; with extra branches it is not safe there.
        self.net: FastViT = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=recipe.learning_rate,
                                           weight_decay=recipe.weight_decay, fused=True)
        self.step = 0
        self.cpu_s = 0.0
        self.curve: list[tuple[int, float]] = []

    def images_of(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 images (B, S, S, 3) of a step, mirrored and shifted, and their labels."""
        recipe, count = self.recipe, len(self.task.train)
        numbers = np.arange(step * BATCH, (step + 1) * BATCH)
        epochs = numbers // count
        order = np.concatenate([np.random.default_rng([recipe.seed, epoch]).permutation(count)[
            numbers[epochs == epoch] - epoch * count] for epoch in np.unique(epochs)])
        batch = self.task.train.batch(order, recipe.pixels_at(step))
        rng = np.random.default_rng([recipe.seed, step, 1])
        return augmented(np.asarray(batch.images), rng), batch.labels

    def loss(self, images: np.ndarray, labels: np.ndarray) -> Tensor:
        x, target = as_input(images, self.device), torch.from_numpy(labels).long().to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return F.cross_entropy(self.net(x).float(), target, label_smoothing=self.recipe.smoothing)

    def _gradients(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Of a step's loss, which is returned: large images in parts, which take less memory."""
        parts = 1 if self.device.type == "cuda" else min(BATCH // 8, max(1, round((images.shape[1] / PART_SIDE) ** 2)))
        total = 0.0
        for x, y in zip(np.array_split(images, parts), np.array_split(labels, parts), strict=True):
            loss = self.loss(x, y) * (len(x) / len(images))
            loss.backward()
            total += loss.item()
        return total

    def rate(self, step: int) -> float:
        """Of learning at a step: a short warm-up, then half a cosine to zero."""
        share = step / self.recipe.steps
        return self.recipe.learning_rate * min(1.0, (step + 1) / max(1.0, WARM_UP_SHARE * self.recipe.steps)) * (
            1 + math.cos(math.pi * share)) / 2

    def to(self, step: int, on_step: Callable[[int], Any] | None = None) -> None:
        """Train up to that step.

        Raises:
            Failure: the loss is not finite.
        """
        begun = time.process_time()
        self.net.train()
        for _ in paced(range(self.step, min(step, self.recipe.steps))):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            value = self._gradients(*self.images_of(self.step))
            if not math.isfinite(value):
                raise Failure(f"training diverged at step {self.step + 1}: the loss is {value}")
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
            self.optimizer.step()
            self.step += 1
            self.curve.append((self.step, round(value, 4)))
            now = time.process_time()
            self.cpu_s, begun = self.cpu_s + now - begun, now
            if on_step is not None:
                on_step(self.step)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Take the BatchNorm statistics anew from training images as they are, at the full resolution: those of
        training lag behind its last steps, and are of changed images."""
        begun = time.process_time()
        count = len(self.task.train)
        some = np.random.default_rng([self.recipe.seed, 2]).permutation(count)[:CALIBRATION_IMAGES]
        update_bn((as_input(self.task.train.batch(part, self.recipe.resolution).images, self.device)
                   for part in np.array_split(some, math.ceil(len(some) / EVALUATE_IMAGES))), self.net)
        self.cpu_s += time.process_time() - begun

    def state(self) -> dict[str, Tensor]:
        """The weights as they are now, on the CPU."""
        return {str(name): value.detach().cpu().contiguous() for name, value in self.net.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint aside and move it into place."""
        content = io.BytesIO()
        torch.save({"recipe": self.recipe.to_dict(), "config": self.config.key(), "net": self.net.state_dict(),
                    "optimizer": self.optimizer.state_dict(), "step": self.step, "cpu_s": self.cpu_s,
                    "curve": self.curve}, content)
        write_atomic(path, content.getvalue())

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint of the same training; False when there is none that can be read."""
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
            if saved["recipe"] != self.recipe.to_dict() or saved["config"] != self.config.key():
                return False
            self.net.load_state_dict(saved["net"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except FileNotFoundError:
            return False
        except Exception:  # a damaged file costs its training, never the trial
            path.unlink(missing_ok=True)
            return False
        self.step, self.cpu_s = saved["step"], saved["cpu_s"]
        self.curve = [(step, loss) for step, loss in saved["curve"]]
        return True


def augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (B, S, S, 3): half of them mirrored, each shifted over its mirrored border."""
    count, side = images.shape[:2]
    pad = max(1, side // SHIFT)
    mirrored = np.asarray(rng.random(count)) < 0.5
    rows, columns = rng.integers(0, 2 * pad + 1, (2, count))
    wide = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    out = np.empty_like(images)
    for i in range(count):
        part = wide[i, rows[i]:rows[i] + side, columns[i]:columns[i] + side]
        out[i] = part[:, ::-1] if mirrored[i] else part
    return out


def as_input(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (B, S, S, 3) -> (B, 3, S, S) in [-1, 1], channels-last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.no_grad()
def hits(net: nn.Module, task: Task, numbers: np.ndarray, pixels: int) -> np.ndarray:
    """Whether each of the validation images of those numbers is classified right, as bool (N,)."""
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    found = []
    for part in np.array_split(numbers, max(1, math.ceil(len(numbers) / EVALUATE_IMAGES))):
        batch = task.val.batch(part, pixels)
        found.append(net(as_input(batch.images, device)).argmax(1).cpu().numpy() == batch.labels)
    net.train(was_training)
    return np.concatenate(found)


@dataclass(frozen=True)
class FullResult:
    """What a full-width training reached on images that it did not see."""

    hits: int
    images: int
    held_out: str  # which images those are, in words
    cpu_s: float
    curve: list[tuple[int, float]]
    started_from: str


def held_out(task: Task) -> tuple[np.ndarray, str]:
    """Numbers of the validation images that a trained network is judged by, and which they are, in words: those that
    no score of the search used, where there are enough of them."""
    count = len(task.val)
    if count - VALIDATION_IMAGES >= VALIDATION_IMAGES:
        numbers = np.arange(VALIDATION_IMAGES, count)[:HELD_OUT_IMAGES]
        return numbers, f"{len(numbers)} validation images that no score of the search used"
    return np.arange(count), f"{count} validation images, which the search's scores used as well"


def train_full(config: FastViTConfig, task: Task, recipe: FullRecipe, *, checkpoint: Path, weights: Path,
               on_rung: Callable[[int, float, float], Any],
               start: Callable[[FastViT], str] | None = None) -> FullResult:
    """Train a network at full width from where its checkpoint is, judge it and write its weights.

    Args:
        checkpoint: file to go on from, and to leave behind now and then.
        weights: file for the weights in float32, as safetensors, with the recipe in its metadata.
        on_rung: called at each rung but the last with the step, top-1 on some held-out images and its sampling error.
        start: as FullTrainer's.

    Raises:
        Failure: training diverged.
    """
    import json

    from safetensors.torch import save

    trainer = FullTrainer(config, task, recipe, start=start)
    trainer.load(checkpoint)
    saved = time.monotonic()

    def after(step: int) -> None:
        nonlocal saved
        if time.monotonic() - saved > SAVE_EVERY_S:
            trainer.save(checkpoint)
            saved = time.monotonic()

    numbers, words = held_out(task)
    for rung in recipe.rungs:
        if rung <= trainer.step:
            continue
        trainer.to(rung, after)
        if rung < recipe.steps:
            right = hits(trainer.net, task, numbers[:RUNG_IMAGES], recipe.pixels_at(rung))
            on_rung(rung, float(right.mean()), float(right.std() / math.sqrt(len(right))))
        trainer.save(checkpoint)
    trainer.calibrate()
    right = hits(trainer.net, task, numbers, recipe.resolution)
    weights.parent.mkdir(exist_ok=True)
    write_atomic(weights, save(trainer.state(), {"form": "full", "config": trainer.config.to_json(),
                                                 "recipe": json.dumps(recipe.to_dict())}))
    return FullResult(int(right.sum()), len(right), words, trainer.cpu_s, trainer.curve, trainer.started_from)


def seconds_per_image(config: FastViTConfig, num_classes: int, pixels: int, *, images: int = 32) -> tuple[float, float]:
    """What a full-width network's training takes for an image of `pixels`: seconds of one CPU (on a GPU, of time), and
    the share of a CPU that this process got meanwhile. Measured on noise, after one step that is not counted.
    """
    from nas.data.task import ArraySplit, Task

    rng = np.random.default_rng(0)
    split = ArraySplit(rng.integers(0, 256, (images, pixels, pixels, 3), dtype=np.uint8),
                       rng.integers(0, num_classes, images))
    task = Task("noise", pixels, tuple(map(str, range(num_classes))), split, split, "noise")
    trainer = FullTrainer(config, task, FullRecipe(4 * BATCH, pixels, pixels))
    cuda = trainer.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    trainer.to(1)
    begun, wall = clock(), time.perf_counter()
    trainer.to(2)
    spent, wall = clock() - begun, time.perf_counter() - wall
    return spent / BATCH, min(1.0, spent / wall)
