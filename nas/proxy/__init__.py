"""Train a small version of a configuration, rung by rung, and score it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fastvit.config import FastViTConfig
from nas.proxy.recipe import rungs

if TYPE_CHECKING:
    from nas.data import Task
    from nas.proxy.parent import Parent
    from nas.proxy.train import ProxyResult


def score(config: FastViTConfig, task: Task, *, steps: int, seed: int = 0, checkpoint: Path | None = None,
          on_rung: Callable[[ProxyResult], bool] | None = None, parent: Parent | None = None) -> ProxyResult:
    """Train the proxy of `config` from its slice of the task's parent, which is trained first where there is none, and
    score it; the same seed gives every configuration the same parent and the same images.

    Args:
        steps: of training, at most.
        checkpoint: file to go on from, and to leave behind after every rung.
        on_rung: called after each rung but the last; a true answer ends training there.
        parent: of these images and that seed, where it was read already.

    Raises:
        Failure: training diverged.
    """
    from nas.proxy.parent import parent_of
    from nas.proxy.train import Trainer

    trainer = Trainer(config, task, seed=seed, parent=parent or parent_of(task, steps, seed))
    if checkpoint is not None:
        trainer.load(checkpoint)
    for rung in rungs(steps):
        if rung < trainer.step:
            continue
        trainer.to(rung)
        result = trainer.evaluate()
        if checkpoint is not None:
            trainer.save(checkpoint)
        if rung < steps and on_rung is not None and on_rung(result):
            break
    return result
