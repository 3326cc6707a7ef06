"""Train a small version of a configuration, rung by rung, and score it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig

if TYPE_CHECKING:
    from nas.data import Task
    from nas.proxy.parent import Parent
    from nas.proxy.train import ProxyResult

# Of the training and its score: whoever changes what a score is raises it, and old scores are not mixed in.
ALONE = 2  # from random weights: parents, and the long runs of FastViT-Bench
ONE_PARENT = 3  # as RECIPE, but all seeds from the parent of seed 0: what two runs from one parent share
RECIPE = 4  # from a slice of a trained parent, another one for each seed (nas/proxy/parent.py)
RUNGS = (30, 60, 120)  # training steps after which a trial is scored, and may end


def rungs(steps: int | None = None) -> tuple[int, ...]:
    """The steps at which a proxy is scored, the last one being `steps` (None: the default)."""
    top = steps or RUNGS[-1]
    return (*(step for step in RUNGS if step < top), top)


def shipped_scores(task: Task, seed: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Rows of FastViT-Bench for exactly these images and this seed, by configuration key and step: the presets
    are among them, so that a run spends its minutes on what is new."""
    from nas.bench.table import rows_of

    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows_of(task.fingerprint):
        if row["seed"] == seed:
            found.setdefault(row["key"], {})[row["steps"]] = row
    return found


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
