"""A short training at full width in the place of a proxy: on photographs it orders configurations as long trainings do,
where narrow proxies at a constant rate do not (docs/LOG.md)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastvit import FastViT
from fastvit.config import FastViTConfig
from nas.data import Task
from nas.proxy.full import FullTrainer, hits
from nas.proxy.full_recipe import BATCH, FullRecipe
from nas.proxy.train import VALIDATION_IMAGES, ProxyResult

SAVE_EVERY_S = 60.0


def short_recipe(steps: int, pixels: int, seed: int) -> FullRecipe:
    return FullRecipe(images=BATCH * steps, resolution=pixels, pixels=pixels, seed=seed)


def short_whole(config: FastViTConfig, task: Task, recipe: FullRecipe, *, checkpoint: Path | None = None,
                start: Callable[[FastViT], str] | None = None, until: float = math.inf) -> ProxyResult | None:
    """Train `config` by `recipe` and score it: top-1 on the validation images that scores of the search use.

    Args:
        checkpoint: to go on from, and to leave behind now and then.
        start: as FullTrainer's.
        until: time.monotonic() after which training is given up and None is returned.

    Raises:
        Failure: training diverged.
    """
    trainer = FullTrainer(config, task, recipe, start=start)
    if checkpoint is not None:
        trainer.load(checkpoint)
    saved = time.monotonic()
    while trainer.step < recipe.steps:
        trainer.to(min(recipe.steps, trainer.step + 10))
        now = time.monotonic()
        if checkpoint is not None and now - saved > SAVE_EVERY_S:
            trainer.save(checkpoint)
            saved = now
        if now > until and trainer.step < recipe.steps:
            return None
    trainer.calibrate()
    right = hits(trainer.net, task, np.arange(min(len(task.val), VALIDATION_IMAGES)), recipe.resolution)
    # Laplace's rule, so that nothing right or nothing wrong among few images is not taken for certain.
    share = (right.sum() + 1) / (len(right) + 2)
    return ProxyResult(score=float(right.mean()), score_sd=math.sqrt(share * (1 - share) / len(right)),
                       steps=trainer.step, seconds=trainer.cpu_s, curve=list(trainer.curve))
