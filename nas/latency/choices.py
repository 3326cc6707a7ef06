"""Configurations as points, so that a distance says how unlike two of them are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastvit.config import FastViTConfig


def choices(configs: Sequence[FastViTConfig]) -> np.ndarray:
    """Configurations as points (N, 36) in which a typical step between two of them is about 1 in each dimension."""
    configs = [config.in_four_stages() for config in configs]

    def column(name: str) -> np.ndarray:
        return np.array([getattr(config, name) for config in configs], float)

    # RepMixer is the origin; every other mixer has a dimension of its own in each stage.
    mixers = np.array([[mixer == other for other in ("attention", "pool", "convmixer") for mixer in config.mixers]
                       for config in configs], float).reshape(len(configs), -1)
    return np.concatenate([np.log(column("depths")) / 0.6, np.log(column("widths")) / 0.4,
                           np.log(column("mlp_ratios")) / 0.5, 2 * mixers, column("mixer_kernels") / 1.7,
                           column("ffn_kernels") / 1.7, column("patch_kernels") / 1.7,
                           np.log(column("stem_stride"))[:, None]], 1)
