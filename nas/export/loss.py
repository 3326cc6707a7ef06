"""What a smaller number format costs: decisions of a file beside those of the fp32 network, on held-out images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nas.errors import Failure

WARN_POINTS = 1.0  # a loss that nobody expects; a chosen limit replaces it
FEW = 100  # images; with fewer a point of loss is one image


@dataclass(frozen=True)
class Judged:
    """Images (N, 3, H, W), normalised, that no calibration saw, and their classes (N,) where those are known."""

    images: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Loss:
    """Points of top-1 that a file loses against fp32, with the standard error; or, without labels, the share of
    decisions that changed, in percent, which the loss cannot exceed."""

    points: float
    sd: float
    images: int
    top1: float | None = None
    top1_fp32: float | None = None

    def __str__(self) -> str:
        if self.top1 is None:
            return f"{self.points:.1f} % of its decisions differ from fp32 on {self.images} images"
        return (f"top-1 {self.top1:.1f} %, {self.points:+.1f} ± {self.sd:.1f} points lost against fp32 on "
                f"{self.images} images")


def loss_of(reference: Callable[[np.ndarray], np.ndarray], other: Callable[[np.ndarray], np.ndarray],
            judged: Judged) -> Loss:
    """Compare two functions from images to logits."""
    one, two = (np.concatenate([run(part).argmax(1) for part in np.array_split(judged.images, -(-len(judged.images)
                                                                                               // 32))])
                for run in (reference, other))
    count = len(judged.images)
    if judged.labels is None:
        share = float((one != two).mean())
        return Loss(100 * share, 100 * float(np.sqrt(share * (1 - share) / count)), count)
    lost = (one == judged.labels).astype(float) - (two == judged.labels)
    return Loss(100 * float(lost.mean()), 100 * float(lost.std() / count**0.5), count,
                100 * float((two == judged.labels).mean()), 100 * float((one == judged.labels).mean()))


def decide(name: str, loss: Loss, most: float | None) -> None:
    """Refuse a file that loses more than the user's limit; without a limit, warn of a loss that nobody expects.

    Raises:
        Failure: more than `most` points.
    """
    few = f" (few images: one is {100 / loss.images:.1f} points)" if loss.images < FEW else ""
    if most is not None and loss.points > most:
        raise Failure(f"{name}: {loss}{few}, more than --max-loss {most:g}; give more or more typical images with "
                      "--calibration, a larger --max-loss, or take fp16")
    if most is None and loss.points > WARN_POINTS:
        print(f"{name}: {loss}{few}; --max-loss POINTS refuses such a file", file=sys.stderr)
