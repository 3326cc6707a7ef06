"""Whether a run can tell the points of its front apart, in one sentence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from nas.data import DRAWN
from nas.runs.meta import RunMeta
from nas.runs.trial import Trial

SURE = 0.9


def rises(meta: RunMeta, trials: Sequence[Trial], front: Sequence[Trial]) -> np.ndarray:
    """Probabilities that each point of a front reaches more than the one before it, and last that the slowest reaches
    more than the fastest: (N,).

    Args:
        trials: of the run.
        front: points from fast to slow, at least two.
    """
    from scipy.stats import norm

    pairs = [*itertools.pairwise(front), (front[0], front[-1])]
    if meta.task not in DRAWN and not all(r.trained for r in front):
        from nas.estimate.judge import run_judge

        judge = run_judge(meta, trials)
        # Jointly: what all configurations share on these images is no doubt between two of them.
        return np.array([judge.rises([a.architecture, b.architecture])[0] for a, b in pairs])
    found = []
    for a, b in pairs:
        less, more = a.shown, b.shown
        assert less is not None
        assert more is not None
        found.append(norm.cdf((more.value - less.value) / max(1e-9, float(np.hypot(less.sd or 0.0, more.sd or 0.0)))))
    return np.array(found)


def told_apart(meta: RunMeta, trials: Sequence[Trial], front: Sequence[Trial]) -> str:
    """What of the front's order is doubtful, and what would help; empty when nothing is."""
    points = [r for r in front if r.config is not None and r.shown is not None]
    if len(points) < 2:
        return ""
    *neighbours, ends = rises(meta, trials, points)
    help_ = "more minutes or more images would" if meta.task not in DRAWN else "more minutes would"
    if ends < SURE:
        return (f"The run cannot tell the points of this front apart: the slowest reaches more than the fastest with a "
                f"probability of {ends:.0%} only; {help_} tell.")
    doubtful = sum(one < SURE for one in neighbours)
    if doubtful:
        return (f"{doubtful} of {len(neighbours)} neighbours on this front cannot be told apart with {SURE:.0%} "
                f"probability; {help_} tell.")
    return ""
