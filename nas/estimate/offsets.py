"""Seeds start from parents of their own, and parents differ in what everything that starts from them reaches. What a
configuration is worth is how it stands among others from the same parent, so scores of further seeds are brought to the
level of the first one, by what was scored with both."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

Seed = int | None
Level = dict[tuple[Seed, int], float]


@lru_cache(maxsize=4)
def shipped_levels(task_fingerprint: str, first: Seed) -> Level:
    """As the runs of FastViT-Bench on exactly these images have them; empty for images of one's own."""
    from nas.bench.table import rows_of

    return bench_levels(rows_of(task_fingerprint), first)


def bench_levels(rows: Iterable[dict[str, Any]], first: Seed) -> Level:
    """As rows of FastViT-Bench, of one recipe and task, have them."""
    return levels([(row["key"], row["seed"], row["steps"], row["score"]) for row in rows], first)


def levels(scores: Iterable[tuple[Hashable, Seed, int, float]], first: Seed) -> Level:
    """How far runs of each further seed lie above those of seed `first` after as many steps, on average.

    Args:
        scores: (what was scored, seed, steps, score); whatever is to be a reference, so nothing that was chosen for a
            high score with one of these seeds.

    Returns:
        By seed and steps; 0 for `first`, and what nothing was scored with is missing.
    """
    known = {(item, seed, steps): score for item, seed, steps, score in scores}
    found: dict[tuple[Seed, int], list[float]] = {}
    for (item, seed, steps), score in known.items():
        if (item, first, steps) in known:
            found.setdefault((seed, steps), []).append(score - known[item, first, steps])
    return {at: float(np.mean(differences)) for at, differences in found.items()}
