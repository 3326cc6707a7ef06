"""The order of a data set's images: every beginning of the list holds the classes in proportion.

Folders list their images class after class. Whoever takes "the first N" of such a list (batch statistics, validation,
calibration) takes one class, so the order is mixed once, where the list is made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mixed(labels: Sequence[int] | np.ndarray, seed: int = 0) -> np.ndarray:
    """Numbers of the images (N,) in an order by which the first k hold, for every k, each class within one or two
    images of its share, drawn at random within the class.

    The k-th image of a class of n stands at (k + u) / n of the list, u drawn once for the class.
    """
    rng = np.random.default_rng(seed)
    given = np.asarray(labels)
    place = np.empty(len(given))
    for label in np.unique(given):
        members = rng.permutation(np.flatnonzero(given == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")
