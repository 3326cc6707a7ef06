"""What a worker does to a configuration: measure it, and train it rung by rung.

A worker takes any object with these methods, so that a simulation can stand in for the minutes of a real
trial (tests/nas/stand_in.py, benchmarks/scale.py) while asking, recording, dying and resuming stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastvit.config import FastViTConfig
from nas.errors import UsageError
from nas.proxy.recipe import RECIPE
from nas.search.plan import SearchPlan

if TYPE_CHECKING:
    from fastvit import FastViT
    from nas.data import Task
    from nas.latency import Measurement
    from nas.proxy.full import FullResult
    from nas.proxy.full_recipe import FullRecipe
    from nas.proxy.parent import Parent
    from nas.proxy.pretrained import Pretrained
    from nas.proxy.train import ProxyResult
    from nas.runs.run import Run

OTHER_SPEED = 0.1  # of the reference network between two measurements, relative: they do not compare


SETTLING_IMAGES = 512  # of which a pretrained parent takes its BatchNorm statistics


class Evaluator(Protocol):
    def measure(self, config: FastViTConfig | str) -> Measurement:
        """Latency on the run's device; a string names a model of timm."""

    def prepare(self, seed: int) -> None:
        """What is made once before anything is trained with that seed; minutes the first time, nothing later."""

    def score(self, config: FastViTConfig, *, seed: int, checkpoint: Path,
              on_rung: Callable[[ProxyResult], bool]) -> ProxyResult:
        """Train and score; goes on from `checkpoint` where there is one, ends early when `on_rung` says so."""

    def train_full(self, config: FastViTConfig, *, recipe: FullRecipe, checkpoint: Path, weights: Path,
                   on_rung: Callable[[int, float, float], Any]) -> FullResult:
        """Train at full width from `checkpoint` on, judge, and write the weights (nas.proxy.full.train_full)."""

    def shipped(self, seed: int) -> dict[str, dict[int, dict[str, Any]]]:
        """Scores that are known without training, by configuration key and step."""

    def keep(self, checkpoint: Path, trial: int) -> None:
        """Keep what the trial learned, for whoever exports it."""


class RunEvaluator:
    """The device and the data that run.json names.

    Raises:
        UsageError: the data or the processor is not what the run began with.
        NotAvailable: the device cannot be used from here.
    """

    def __init__(self, run: Run, *, data: str | None = None) -> None:
        from nas.addresses import is_address
        from nas.data import load_task
        from nas.latency import check_device
        from nas.latency.cache import machine

        check_device(run.meta.device)
        self.run, self.meta, self.path = run, run.meta, run.path
        self._reference_ms: float | None = None  # how fast the machine is, as the first measurement found it
        self._parents: dict[int, Parent] = {}
        self._data = data or self.meta.task
        self.plan = SearchPlan.of(self.meta.plan)
        self._whole_images: Task | None = None  # at the full resolution, which proxies need not
        self._pretrained: Pretrained | None = None
        processor = self.meta.processor
        # A device behind an address is the same for everybody; a local one is each machine's own.
        if not is_address(self.meta.device) and processor not in (None, machine()):
            raise UsageError(f"the latencies of the run {run.path} are those of {processor}; this machine is a "
                             f"{machine()}, and its latencies would not compare")
        self.task = load_task(data or self.meta.task, resolution=self.meta.resolution, seed=self.meta.seed)
        if self.task.fingerprint != self.meta.task_fingerprint:
            where = data or self.meta.task
            raise UsageError(f"the data of {where} is not what the run {run.path} began with, or was read in another "
                             "order by an earlier version; "
                             + ("name the same images with --data" if data else "start a new run"))
        if (recipe := self.meta.recipe) != RECIPE:
            raise UsageError(f"the scores of the run {run.path} are of training recipe {recipe}; this version trains "
                             f"by recipe {RECIPE}, and its scores would not compare: start a new run")

    def measure(self, config: FastViTConfig | str) -> Measurement:
        from nas.latency import measure

        def ask(fresh: bool) -> Measurement:
            return measure(config, self.meta.device, resolution=self.meta.resolution, precision=self.meta.precision,
                           budget_ms=self.meta.budget_ms, fresh=fresh)

        # The first of a worker tells how fast the machine is; what was measured when it was faster or slower (another
        # host, a hot day) is measured again.
        found = ask(fresh=self._reference_ms is None)
        if self._reference_ms is None:
            self._reference_ms = found.reference_ms
        elif found.reference_ms and abs(math.log(found.reference_ms / self._reference_ms)) > OTHER_SPEED:
            found = ask(fresh=True)
        return found

    def parent(self, seed: int) -> Parent:
        """What the run's proxies of that seed start from; read once, and trained where there is none."""
        from nas.proxy.parent import parent_of

        if seed not in self._parents:
            self._parents[seed] = parent_of(self.task, self.meta.steps, seed)
        return self._parents[seed]

    def prepare(self, seed: int) -> None:
        if self.plan is None:
            self.parent(seed)

    def score(self, config: FastViTConfig, *, seed: int, checkpoint: Path,
              on_rung: Callable[[ProxyResult], bool]) -> ProxyResult:
        from nas.proxy import score

        if self.plan is not None:
            from nas.proxy.short_whole import short_recipe, short_whole

            found = short_whole(config, self.images(), short_recipe(self.plan.steps, self.plan.pixels, seed),
                                checkpoint=checkpoint, start=self.start())
            assert found is not None
            return found
        return score(config, self.task, steps=self.meta.steps, seed=seed, checkpoint=checkpoint, on_rung=on_rung,
                     parent=self.parent(seed))

    def images(self) -> Task:
        """The run's images at the full resolution."""
        from nas.data.folder import whole_task

        if self._whole_images is None:
            self._whole_images = whole_task(self._data, self.meta.resolution, self.meta.seed)
        return self._whole_images

    def start(self) -> Callable[[FastViT], str] | None:
        """What fills a network's first weights: slices of the run's pretrained parent; None without one."""
        if self.meta.parent is not None and self._pretrained is None:
            self._pretrained = self._settled(self.images())
        return None if self._pretrained is None else self._pretrained.hand_down

    def train_full(self, config: FastViTConfig, *, recipe: FullRecipe, checkpoint: Path, weights: Path,
                   on_rung: Callable[[int, float, float], Any]) -> FullResult:
        from nas.proxy.full import train_full

        return train_full(config, self.images(), recipe, checkpoint=checkpoint, weights=weights, on_rung=on_rung,
                          start=self.start())

    def _settled(self, images: Task) -> Pretrained:
        """The run's pretrained parent, at home on its images."""
        import numpy as np

        from nas.proxy.full import as_input
        from nas.proxy.pretrained import FILE, Pretrained

        found = Pretrained.read(self.path / FILE)
        some = np.arange(min(len(images.train), SETTLING_IMAGES))
        found.settle(as_input(images.train.batch(part, self.meta.resolution).images)
                     for part in np.array_split(some, max(1, len(some) // 64)))
        return found

    def shipped(self, seed: int) -> dict[str, dict[int, dict[str, Any]]]:
        from nas.bench.table import shipped_scores

        return shipped_scores(self.task.fingerprint, seed)

    def keep(self, checkpoint: Path, trial: int) -> None:
        from nas.proxy.keep import keep_weights, weights_path

        if self.plan is not None:  # finalists are trained anew, for longer
            return
        keep_weights(checkpoint, weights_path(self.path, trial))
