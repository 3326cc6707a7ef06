"""How a proxy is trained, as numbers: the version of the recipe and the steps at which a trial is scored."""

from __future__ import annotations

# Recipe version, stored with every score: bump it when scores stop being comparable.
ALONE = 2  # from random weights: parents, and the long runs of FastViT-Bench
ONE_PARENT = 3  # as RECIPE, but all seeds from the parent of seed 0: what two runs from one parent share
RECIPE = 4  # from a slice of a trained parent, another one for each seed (nas/proxy/parent.py)
RUNGS = (30, 60, 120)  # training steps after which a trial is scored, and may end


def rungs(steps: int | None = None) -> tuple[int, ...]:
    """The steps at which a proxy is scored, the last one being `steps` (None: the default)."""
    top = steps or RUNGS[-1]
    return (*(step for step in RUNGS if step < top), top)
