"""Figures from logits and labels."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15  # of the calibration error, as in Guo et al., ICML 2017


def summary(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Top-1 and top-5 in percent, cross-entropy, calibration error, number of images.

    Args:
        logits: (N, C).
        labels: (N,), each below C.
    """
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rank = (logits > np.take_along_axis(logits, labels[:, None], 1)).sum(1)
    return {"images": len(labels), "top1": 100 * float((rank == 0).mean()), "top5": 100 * float((rank < 5).mean()),
            "nll": float(-log_p[np.arange(len(labels)), labels].mean()),
            "ece": calibration_error(np.exp(log_p), labels)}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over BINS equal bins of confidence."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    # A confidence on a border belongs to the bin below it, and 0 to the first.
    where = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = 0.0
    for number in range(BINS):
        inside = where == number
        if inside.any():
            gap += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(gap)


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (C, C): a row for each true class, a column for each predicted one."""
    classes = logits.shape[1]
    counts = np.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    return counts.reshape(classes, classes)


def per_class(counts: np.ndarray) -> list[float | None]:
    """Recall of each class in percent, None without images."""
    total = counts.sum(1)
    return [100 * float(counts[i, i] / total[i]) if total[i] else None for i in range(len(counts))]


def most_confused(counts: np.ndarray, names: tuple[str, ...], limit: int = 5) -> list[dict[str, Any]]:
    """The most frequent mistakes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    return [{"class": names[i // len(names)], "taken_for": names[i % len(names)], "images": int(wrong.flat[i])}
            for i in order if wrong.flat[i] > 0]
