"""scikit-learn's handwritten digits: 1,797 real 8 x 8 images, the tiny real task of the tests."""

from __future__ import annotations

import numpy as np

from nas.data.task import PROXY_PIXELS, ArraySplit, Task, resize

VALIDATION = 360


def digits_task(resolution: int, seed: int) -> Task:
    """The digits, scaled up to `resolution`, split by the seed."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    grey = (raw.images * (255 / 16)).astype(np.uint8)
    pixels = min(resolution, PROXY_PIXELS)
    images = resize(np.repeat(grey[..., None], 3, axis=-1), pixels)
    order = np.random.default_rng(seed).permutation(len(images))
    val, train = order[:VALIDATION], order[VALIDATION:]
    return Task("digits", resolution, tuple(str(n) for n in range(10)),
                ArraySplit(images[train], raw.target[train]), ArraySplit(images[val], raw.target[val]),
                fingerprint=f"digits-s{seed}-{resolution}px", proxy_pixels=pixels)
