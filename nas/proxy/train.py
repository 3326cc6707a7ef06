"""Train a proxy rung by rung, so that a run that is continued equals one that was never interrupted."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from fastvit.config import FastViTConfig
from nas import quiet
from nas.data import Batch, Split, Task
from nas.errors import Failure
from nas.files import write_atomic
from nas.proxy.net import DENSE_STAGES, ProxyNet, dense_errors

BATCH = 32
LEARNING_RATE = 1e-2
CLASS_WEIGHT = 0.1  # beside dense targets, which then are told apart in half the steps (docs/LOG.md)
WARM_UP_STEPS = 10
EMA_DECAY = 0.95  # evaluated are averaged weights at a constant rate: every step can be a run's last
CALIBRATION_IMAGES, VALIDATION_IMAGES = 512, 768
IMAGES_OF_A_SEED = 1 << 22  # runs of different seeds see different images where a task has that many


class Initializer(Protocol):
    """Fills a new network's weights, as a task's parent does (nas/proxy/parent.py)."""

    def hand_down(self, net: ProxyNet) -> float: ...


@dataclass(frozen=True)
class ProxyResult:
    """What a proxy reached. Every part is a skill: 0 for knowing nothing but the mean, 1 when perfect.

    `score_sd` is the sampling error over the validation images; it does not hold the spread between seeds.
    """

    score: float
    score_sd: float
    steps: int
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)


def _order(split: Split, seed: int, steps: int) -> np.ndarray:
    """Numbers of the training images, step after step; the same for every configuration."""
    count = steps * BATCH
    if len(split) >= 2 * IMAGES_OF_A_SEED:
        return (np.arange(count) + seed * IMAGES_OF_A_SEED) % len(split)
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(len(split)) for _ in range(math.ceil(count / len(split)))])[:count]


class Trainer:
    """One proxy in training. `to(steps)` goes on to that step; `evaluate()` scores the averaged weights."""

    def __init__(self, config: FastViTConfig, task: Task, *, seed: int = 0, branches: int = 0,
                 device: str | None = None, pixels: int | None = None, parent: Initializer | None = None) -> None:
        self.task, self.seed, self.pixels, self.branches = task, seed, pixels or task.proxy_pixels, branches
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(seed)
        net = ProxyNet(config, task.num_classes, len(task.map_names), branches=branches)
        if parent is not None:
            parent.hand_down(net)
        self.net = net.to(self.device)
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=LEARNING_RATE, weight_decay=0.02, fused=True)
        self.step = 0
        self.seconds = 0.0
        self.curve: list[tuple[int, float]] = []
        self.variance = self._variance() if task.map_names else torch.ones(0)

    def _variance(self) -> Tensor:
        """(heads, C): variance of the dense targets on each head's grid."""
        maps = self._targets(self.task.val.batch(np.arange(min(len(self.task.val), 512)), self.pixels))
        side = math.ceil(self.pixels / 2)
        grids = [math.ceil(side / 2**stage) for stage in DENSE_STAGES]
        return torch.stack([F.adaptive_avg_pool2d(maps, grid).var((0, 2, 3)) for grid in grids]).clamp_min(1e-4)

    def _images(self, batch: Batch) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(batch.images)).to(self.device)
        x = x.permute(0, 3, 1, 2)
        # The backward of a strided 1x1 branch over channels-last images corrupts memory on the CPU (torch 2.15).
        return (x.contiguous() if self.branches else x).float().div_(127.5).sub_(1)

    def _targets(self, batch: Batch) -> Tensor:
        assert batch.maps is not None
        return torch.from_numpy(np.ascontiguousarray(batch.maps)).to(self.device).float().div_(127)

    def loss(self, net: torch.nn.Module, batch: Batch) -> Tensor:
        """Of a network that returns what ProxyNet does: 1 or more for one that knows nothing."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits, dense = net(self._images(batch))
            labels = torch.from_numpy(batch.labels).long().to(self.device)
            loss = F.cross_entropy(logits, labels) / math.log(self.task.num_classes)
            if not dense:
                return loss
            return CLASS_WEIGHT * loss + dense_errors(dense, self._targets(batch), self.variance).mean()

    def to(self, steps: int, on_step: Callable[[int, float], Any] | None = None) -> None:
        """Train up to step number `steps`.

        Raises:
            Failure: the loss is not finite.
        """
        order = _order(self.task.train, self.seed, steps)
        begun = time.process_time()
        self.net.train()
        for _ in quiet.paced(range(self.step, steps)):
            batch = self.task.train.batch(order[self.step * BATCH:(self.step + 1) * BATCH], self.pixels)
            for group in self.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, (self.step + 1) / WARM_UP_STEPS)
            loss = self.loss(self.net, batch)
            value = loss.item()
            if not math.isfinite(value):
                raise Failure(f"training diverged at step {self.step + 1}: the loss is {value}")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
            self.optimizer.step()
            self.average.update_parameters(self.net)
            self.step += 1
            self.curve.append((self.step, round(value, 5)))
            if on_step is not None:
                on_step(self.step, value)
        self.seconds += time.process_time() - begun

    @torch.no_grad()
    def evaluate(self) -> ProxyResult:
        """Skills of the averaged weights, their BatchNorm statistics taken anew from training images."""
        begun = time.process_time()
        train, val, size = self.task.train, self.task.val, 64
        # The first images of the training set, whatever the step: the same for every rung. Every beginning of a
        # split holds all classes.
        some = np.arange(min(len(train), CALIBRATION_IMAGES))
        parts_of_some = np.split(some, range(size, len(some), size))
        update_bn((self._images(train.batch(part, self.pixels)) for part in quiet.paced(parts_of_some)),
                  self.average)
        self.average.eval()
        nll, dense = [], []
        held = np.arange(min(len(val), VALIDATION_IMAGES))
        for part in quiet.paced(np.split(held, range(size, len(held), size))):
            batch = val.batch(part, self.pixels)
            logits, maps = self.average(self._images(batch))
            nll.append(F.cross_entropy(logits, torch.from_numpy(batch.labels).long().to(self.device), reduction="none"))
            if maps:
                dense.append(dense_errors(maps, self._targets(batch), self.variance))
        skill = 1 - torch.cat(nll) / math.log(self.task.num_classes)
        parts, shown = {"class": skill.mean().item()}, skill
        if dense:
            each = 1 - torch.cat(dense)  # (images, heads, C)
            for head, stage in enumerate(DENSE_STAGES):
                for index, name in enumerate(self.task.map_names):
                    parts[f"stage {stage + 1} {name}"] = each[:, head, index].mean().item()
            scored = [self.task.map_names.index(name) for name in self.task.scored_maps or self.task.map_names]
            parts["dense"] = each.mean().item()
            shown = each[:, :, scored].mean((1, 2))
        late = [loss for step, loss in self.curve if step > self.step // 2]
        parts["late loss"] = float(np.mean(late)) if late else math.nan
        self.seconds += time.process_time() - begun
        return ProxyResult(score=shown.mean().item(), score_sd=(shown.std() / math.sqrt(len(shown))).item(),
                           steps=self.step, seconds=self.seconds, parts=parts, curve=list(self.curve))

    def save(self, path: Path) -> None:
        """Write a checkpoint aside and move it into place."""
        content = io.BytesIO()
        torch.save({"net": self.net.state_dict(), "average": self.average.state_dict(), "step": self.step,
                    "optimizer": self.optimizer.state_dict(), "seconds": self.seconds, "curve": self.curve}, content)
        write_atomic(path, content.getvalue())

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint of the same network; False when there is none that can be read."""
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
            self.net.load_state_dict(saved["net"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except FileNotFoundError:
            return False
        except Exception:  # a damaged file costs its training, never the trial
            path.unlink(missing_ok=True)
            return False
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.curve = [(step, loss) for step, loss in saved["curve"]]
        return True
