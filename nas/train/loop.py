"""The training itself, on Lightning Fabric: one process or several, and after a kill as if nothing had been."""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastvit.config import FastViTConfig
from fastvit.layout import channels_last
from nas.data.folder import unreadable_line
from nas.data.pictures import UNREADABLE, decoded, eval_loader, open_images
from nas.errors import Failure, UsageError
from nas.recipe import Recipe
from nas.train.data import Batches, seed_all, train_loader
from nas.train.log import Log
from nas.train.teacher import Student, feature_loss, load_teacher, soft_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "ema.safetensors"
JOB = "job.json"
CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the accelerator


@dataclass(frozen=True)
class Job:
    """What is trained, on what, how and where; plain values, because it travels to other processes."""

    name: str
    config: dict[str, Any]
    start: str  # file of the weights that training starts from
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str
    recipe: dict[str, Any]
    work: str  # folder for the checkpoint and the logs
    teacher: str | None = None
    accumulate: int = 1
    workers: int = 0
    checkpoint_minutes: float = 10.0

    def same_as(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be gone on from."""
        kept = asdict(self)
        for free in ("name", "start", "work", "workers", "accumulate", "checkpoint_minutes"):
            kept.pop(free)
        return kept


class Stopped(KeyboardInterrupt):
    """Ended by a signal, after a checkpoint."""

    def __init__(self, number: int) -> None:
        self.number = number


def train(fabric: Fabric, values: dict[str, Any]) -> int:
    """Train the job of these values to the end, from the checkpoint in the work folder where there is one; the step
    that was reached.

    Leaves the averaged weights in `ema.safetensors` there.

    Raises:
        Failure: the loss is not finite, or the checkpoint cannot be read.
        UsageError: the checkpoint is one of another training.
        Stopped: SIGINT or SIGTERM came, the checkpoint is written (one process only).
    """
    return Loop(fabric, Job(**values)).run()


class Loop:
    """One process's part of a training."""

    def __init__(self, fabric: Fabric, job: Job) -> None:
        from timm.data import Mixup
        from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
        from timm.optim import create_optimizer_v2
        from timm.scheduler import create_scheduler_v2
        from timm.utils import ModelEmaV3

        from nas.export.weights import load_weights

        self.fabric, self.job = fabric, job
        self.recipe = recipe = Recipe.from_dict(job.recipe)
        self.work = Path(job.work)
        self.data, unreadable = decoded(open_images(job.data, recipe.resolution, recipe.seed), recipe)
        if unreadable and fabric.is_global_zero:
            print(unreadable_line(unreadable), file=sys.stderr)
        self.teacher = None if job.teacher is None else load_teacher(
            job.teacher, job.num_classes, job.mean, job.std).to(fabric.device)
        config = FastViTConfig.from_dict(job.config)
        if recipe.drop_path is not None:
            config = config.replace(drop_path=recipe.drop_path)
        self.net: Any = load_weights(Path(job.start), config, job.num_classes)[0]
        cuda = fabric.device.type == "cuda"
        if cuda:
            torch.set_float32_matmul_precision("high")
        self.student: Any = None
        if self.teacher is not None and recipe.distill == "features":
            torch.manual_seed(recipe.seed)
            self.student = Student(self.net, self.teacher.map_widths(recipe.resolution))
        learns = self.student or self.net
        self.channels_last = cuda or fabric.world_size == 1
        if self.channels_last:
            channels_last(learns)
        learns.to(fabric.device)
        optimizer = create_optimizer_v2(learns, opt=recipe.opt, lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.batches = Batches(len(self.data.train), recipe, len(self.data.train) > 1 << 20, fabric.global_rank,
                               fabric.world_size, job.accumulate)
        self.scheduler, _ = create_scheduler_v2(
            optimizer, sched=recipe.sched, num_epochs=recipe.epochs, warmup_epochs=recipe.warmup_epochs,
            warmup_lr=recipe.warmup_lr, min_lr=recipe.min_lr, step_on_epochs=False,
            updates_per_epoch=self.batches.steps)
        self.ema = ModelEmaV3(self.net, decay=recipe.model_ema_decay)
        self.model, self.optimizer = fabric.setup(learns, optimizer)
        self.mix: Any = None
        self.criterion: nn.Module = LabelSmoothingCrossEntropy(recipe.smoothing)
        if recipe.mixup or recipe.cutmix:
            self.mix = Mixup(recipe.mixup, recipe.cutmix, prob=recipe.mixup_prob, label_smoothing=recipe.smoothing,
                             num_classes=job.num_classes)
            self.criterion = SoftTargetCrossEntropy()
        self.step = 0
        self.total = self.batches.steps * recipe.epochs
        self.loss_sum, self.seconds = 0.0, 0.0
        self.rows: list[dict[str, Any]] = []
        self.stop = 0

    def run(self) -> int:
        self._load()
        log = Log(self.work, self.job.name, self.step, self.total, self.rows, self.batches.steps,
                  active=self.fabric.is_global_zero)
        alone = self.fabric.world_size == 1
        with log, _Signals(self, active=alone):
            self._train(log)
        if self.fabric.is_global_zero:
            from safetensors.torch import save

            from nas.files import write_atomic

            state = {key: value.cpu().contiguous() for key, value in self.ema.module.state_dict().items()}
            write_atomic(self.work / WEIGHTS, save(state, {"step": str(self.step)}))
        self.fabric.barrier()
        return self.step

    def _train(self, log: Log) -> None:
        from dataclasses import replace

        batches = replace(self.batches, first=self.step)
        loader = iter(train_loader(self.data, batches, self.job.mean, self.job.std, self.job.workers,
                                   self.fabric.device.type == "cuda"))
        self.model.train()
        begun = saved = time.monotonic()
        pending: list[Tensor] = []
        while self.step < self.total:
            pending.append(self._update(loader))
            self.step += 1
            ended = self.step % self.batches.steps == 0
            if ended or self.stop or len(pending) == CHECK_EVERY or self.fabric.device.type == "cpu":
                self._sum(pending)
            log.step(self.step, self.loss_sum / max(1, (self.step - 1) % self.batches.steps + 1))
            if ended:
                self.seconds += time.monotonic() - begun
                self._end_epoch(log)
                begun = time.monotonic()
            due = self._agree(time.monotonic() - saved > 60 * self.job.checkpoint_minutes)
            if ended or self.stop or due:
                self.seconds += time.monotonic() - begun
                self._sum(pending)
                self._save()
                begun = saved = time.monotonic()
            if self.stop:
                raise Stopped(self.stop)

    def _update(self, loader: Any) -> Tensor:
        """One step of the optimizer; its mean loss."""
        # The scheduler counts finished steps: the first one has the rate of step 0.
        self.scheduler.step_update(self.step)
        seed_all(self.recipe.seed, self.step, self.fabric.global_rank, 1)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(torch.initial_seed())
        total = torch.zeros((), device=self.fabric.device)
        for part in range(self.job.accumulate):
            images, labels = next(loader)
            images = images.to(self.fabric.device, non_blocking=True)
            labels = target = labels.to(self.fabric.device, non_blocking=True)
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            if self.mix is not None:
                images, target = self.mix(images, labels)
            with self.fabric.no_backward_sync(self.model, enabled=part < self.job.accumulate - 1):
                loss = self._loss(images, target)
                self.fabric.backward(loss / self.job.accumulate)
            total += loss.detach() / self.job.accumulate
        if self.recipe.clip_grad is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.recipe.clip_grad,
                                       error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.net, self.step)
        return total

    def _loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Of one part of a batch; half of it is the teacher's where there is one."""
        if self.teacher is None:
            return self.criterion(self.model(images), target)  # type: ignore[no-any-return]
        logits, maps = self.model(images) if self.student is not None else (self.model(images), [])
        taught, taught_maps = self.teacher(images, maps=self.student is not None)
        if self.recipe.distill == "hard":  # as in DeiT, on the one head that the network has
            return (self.criterion(logits, target) + nn.functional.cross_entropy(logits, taught.argmax(1))) / 2
        loss = (self.criterion(logits, target) + soft_loss(logits, taught)) / 2
        return loss + feature_loss(maps, taught_maps) if self.student is not None else loss

    def _agree(self, due: bool) -> bool:
        """Whether a checkpoint is due in process 0; in several processes asked every few steps only."""
        if self.fabric.world_size == 1:
            return due
        return self.step % CHECK_EVERY == 0 and bool(self.fabric.broadcast(due))

    def _sum(self, pending: list[Tensor]) -> None:
        for loss in pending:
            value = float(loss)
            if not math.isfinite(value):
                raise Failure(f"training diverged before step {self.step}: the loss is {value}; lower --lr, or clip "
                              "gradients with --set clip_grad=1")
            self.loss_sum += value
        pending.clear()

    def _end_epoch(self, log: Log) -> None:
        from timm.utils import distribute_bn

        if self.fabric.world_size > 1:
            # Process 0's statistics for all: they are what a checkpoint holds, so that going on changes nothing.
            distribute_bn(self.net, self.fabric.world_size)
            distribute_bn(self.ema.module, self.fabric.world_size)
        self._share_loss()
        found = self._validate()
        images = self.batches.steps * self.recipe.batch_size
        before = sum(row["seconds"] for row in self.rows)
        spent = self.seconds - before
        self.rows.append({
            "epoch": self.step // self.batches.steps, "step": self.step,
            "lr": self.optimizer.param_groups[0]["lr"], "train_loss": self.loss_sum / self.batches.steps, **found,
            "images_per_s": images / spent if spent > 0 else 0.0, "seconds": spent})
        self.loss_sum = 0.0
        log.epoch(self.rows)

    def _share_loss(self) -> None:
        if self.fabric.world_size > 1:
            shared: Any = self.fabric.all_reduce(torch.tensor(self.loss_sum, dtype=torch.float64))
            self.loss_sum = float(shared)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss and accuracies of the averaged weights on the validation images, in percent."""
        loader = eval_loader(self.data.val, self.recipe, self.job.mean, self.job.std,
                             batch=max(1, min(64, self.recipe.batch_size)), workers=self.job.workers,
                             rank=self.fabric.global_rank, processes=self.fabric.world_size)
        sums = torch.zeros(4, dtype=torch.float64)
        self.ema.module.eval()
        for images, labels in loader:
            kept = labels != UNREADABLE
            logits = self.ema.module(images[kept].to(self.fabric.device)).float().cpu()
            best = logits.topk(min(5, logits.shape[1])).indices == labels[kept][:, None]
            sums += torch.tensor([nn.functional.cross_entropy(logits, labels[kept], reduction="sum").item(),
                                  best[:, 0].sum().item(), best.sum().item(), int(kept.sum())], dtype=torch.float64)
        if self.fabric.world_size > 1:
            sums = self.fabric.all_reduce(sums, reduce_op="sum")  # type: ignore[assignment]
        count = max(1.0, sums[3].item())
        return {"val_loss": sums[0].item() / count, "val_top1": 100 * sums[1].item() / count,
                "val_top5": 100 * sums[2].item() / count}

    def _save(self) -> None:
        """The whole state, written aside and moved into place."""
        self._share_loss()
        if self.fabric.is_global_zero:
            handle, temporary = tempfile.mkstemp(dir=self.work, prefix=f".{CHECKPOINT}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    torch.save({"job": self.job.same_as(), "fingerprint": self.data.fingerprint, "step": self.step,
                                "processes": self.fabric.world_size, "net": self.net.state_dict(),
                                "links": self.student.links.state_dict() if self.student is not None else {},
                                "ema": self.ema.module.state_dict(), "optimizer": self.optimizer.state_dict(),
                                "loss_sum": self.loss_sum, "seconds": self.seconds, "rows": self.rows,
                                "precision": self.fabric.strategy.precision.state_dict()}, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.work / CHECKPOINT)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        self.fabric.barrier()

    def _load(self) -> None:
        path = self.work / CHECKPOINT
        if not path.exists():
            return
        try:
            saved = torch.load(path, map_location=self.fabric.device, weights_only=True)
        except Exception as error:
            raise Failure(f"{path} cannot be read ({str(error).splitlines()[0][:120]}); delete it to start "
                          "anew") from None
        wanted, there = self.job.same_as(), saved["job"]
        if changed := [key for key in wanted if _plain(wanted[key]) != _plain(there.get(key))]:
            raise UsageError(f"{path} is of another training: {changed[0]} differs; name another --work")
        if saved["fingerprint"] != self.data.fingerprint:
            raise UsageError(f"the images of {self.job.data}, or the order in which this version reads them, changed "
                             f"since {path} was written; start anew with another --work")
        self.net.load_state_dict(saved["net"])
        self.ema.module.load_state_dict(saved["ema"])
        if self.student is not None:
            self.student.links.load_state_dict(saved["links"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.step, self.loss_sum, self.seconds = saved["step"], saved["loss_sum"], saved["seconds"]
        self.rows = saved["rows"]


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what they are in files."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


class _Signals:
    """SIGINT and SIGTERM end training after the current step, with a checkpoint; a second one at once."""

    def __init__(self, loop: Loop, *, active: bool) -> None:
        self.loop, self.active = loop, active
        self.old: dict[int, Any] = {}

    def __enter__(self) -> None:
        try:
            if self.active:
                self.old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread
            self.old = {}

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if self.loop.stop:
            raise KeyboardInterrupt
        self.loop.stop = number
