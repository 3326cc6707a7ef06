"""What a latency is made of, in closed form: work of each kind in each stage, for thousands of configurations at once.

The same sums as fastvit.cost, over arrays instead of configurations, and kept apart by kind of operator: a
multiply-accumulate costs ten times more in a depthwise convolution than in a dense one, and the elements that
operators read and write count beside what they compute. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvit.config import SE_RATIO, SMALL_KERNEL, FastViTConfig
from fastvit.cost import HEAD_EXPANSION

# Vector units of CPUs hold 4, 8 or 16 floats; a channel count that fills them unevenly falls back to slower code.
LANES = (8, 16)

# Milliseconds a unit of each kind of work, roughly, on one core of an x86 server under ONNX Runtime. Their ratios
# decide which networks tell most for their time, and stand in where measurements say nothing about a kind.
ROUGH = {"stem": 0.03, "depthwise macs": 0.03, "depthwise elements": 0.15, "depthwise macs beside 8 lanes": 0.003,
         "depthwise macs beside 16 lanes": 0.015, "dense macs": 0.017, "weights": 0.15, "elements": 0.4,
         "attention macs": 0.012, "attention maps": 0.75, "attention elements": 2.6, "attention blocks": 0.025,
         "blocks": 0.01, "head": 0.4, "classifier": 0.35, "network": 0.02}


@dataclass(frozen=True)
class Features:
    """`values` (N, F) and, for each column, its name and the group of columns that are alike but for the stage."""

    values: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]


def _column(configs: Sequence[FastViTConfig], name: str) -> np.ndarray:
    return np.array([getattr(config, name) for config in configs], float)


def features(configs: Sequence[FastViTConfig], resolution: int | tuple[int, int] = 256,
             num_classes: int = 1000) -> Features:
    """Millions of multiply-accumulates, of elements and of weights, and counts of operators, by kind and stage.

    Networks of four and of five stages may stand side by side: where one lacks a stage, its columns are zero.
    """
    counts = np.array([config.stages for config in configs], int)
    whole: dict[tuple[str, int], np.ndarray] = {}
    for stages in sorted(set(counts.tolist())):
        alike = np.flatnonzero(counts == stages)
        found = _columns([configs[index] for index in alike.tolist()], resolution, num_classes)
        for key, values in found.items():
            whole.setdefault(key, np.zeros(len(configs)))[alike] = values
    kinds = list(whole)
    values = np.stack(list(whole.values()), 1) if whole else np.zeros((0, 0))
    return Features(values, tuple(f"{group}, stage {stage}" for group, stage in kinds),
                    tuple(group for group, _ in kinds))


def _columns(configs: Sequence[FastViTConfig], resolution: int | tuple[int, int],
             num_classes: int) -> dict[tuple[str, int], np.ndarray]:
    """The columns of networks with the same number of stages, by group and stage."""
    columns: dict[tuple[str, int], np.ndarray] = {}

    def add(group: str, stage: int, values: np.ndarray | float, scale: float = 1e6) -> None:
        columns[group, stage] = columns.get((group, stage), 0.0) + np.asarray(values, float) / scale

    def dense(stage: int, c_in: np.ndarray, c_out: np.ndarray, pixels: np.ndarray, count: np.ndarray | float) -> None:
        add("dense macs", stage, count * c_in * c_out * pixels)
        add("weights", stage, count * c_in * c_out)
        add("elements", stage, count * (c_in + c_out) * pixels)

    def depthwise(stage: int, channels: np.ndarray, kernel: np.ndarray | float, pixels: np.ndarray,
                  count: np.ndarray | float) -> None:
        work = count * channels * kernel**2 * pixels
        add("depthwise macs", stage, work)
        add("depthwise elements", stage, count * channels * pixels)
        for lanes in LANES:
            add(f"depthwise macs beside {lanes} lanes", 0, np.where(channels % lanes, work, 0.0))

    one = np.ones(len(configs))
    depths, widths = _column(configs, "depths"), _column(configs, "widths")
    hidden, mid = _column(configs, "hidden_widths"), _column(configs, "patch_widths")
    mixer_kernels, ffn_kernels = _column(configs, "mixer_kernels"), _column(configs, "ffn_kernels")
    patch_kernels, head_dim = _column(configs, "patch_kernels"), _column(configs, "head_dim")
    cpe, cpe_kernel = _column(configs, "has_cpe"), _column(configs, "cpe_kernel")
    mixers = np.array([config.mixers for config in configs])
    stem_stride = _column(configs, "stem_stride")

    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    grid = np.array([one * sides[0], one * sides[1]])
    grid = np.where(stem_stride >= 2, _half(grid), grid)
    c = widths[:, 0]
    add("stem", 0, 27 * c * grid.prod(0))
    grid = np.where(stem_stride >= 4, _half(grid), grid)
    depthwise(0, c, SMALL_KERNEL, grid.prod(0), one)
    dense(0, c, c, grid.prod(0), one)
    for stage in range(depths.shape[1]):
        c, count = widths[:, stage], depths[:, stage]
        if stage:
            grid = _half(grid)
            c_in, c_mid = widths[:, stage - 1], mid[:, stage - 1]
            depthwise(stage, c_mid, patch_kernels[:, stage - 1], grid.prod(0), one)
            dense(stage, c_mid, c, grid.prod(0), one)
            # Only networks that have SE or GELU here get the column's work; all others keep zeros.
            extras = np.array([2 * config.patch_se[stage - 1] + 2 * config.patch_act for config in configs], float)
            add("elements", stage, extras * c_mid * grid.prod(0))
            add("elements", stage, 4 * c_in * grid.prod(0))
        pixels = grid.prod(0)
        depthwise(stage, c, cpe_kernel, pixels, cpe[:, stage])
        kind = mixers[:, stage]
        attention, attends = count * (kind == "attention"), stage + 1
        depthwise(stage, c, mixer_kernels[:, stage], pixels, count * np.isin(kind, ("repmixer", "convmixer")))
        depthwise(stage, c, SMALL_KERNEL, pixels, count * (kind == "pool"))
        dense(stage, c, 4 * c, pixels, attention)
        add("attention macs", attends, attention * 2 * pixels**2 * c)
        add("attention maps", attends, attention * c / head_dim[:] * pixels**2)
        add("attention elements", attends, attention * c * pixels)
        add("attention blocks", attends, attention, 1)
        depthwise(stage, c, ffn_kernels[:, stage], pixels, count)
        dense(stage, c, hidden[:, stage], pixels, count)
        dense(stage, hidden[:, stage], c, pixels, count)
        add("blocks", stage, count, 1)
    pixels, wide = grid.prod(0), c * HEAD_EXPANSION
    add("head", 0, 9 * wide * pixels)
    add("classifier", 0, wide * (num_classes + 2 * np.floor(wide * SE_RATIO).clip(1)))
    add("network", 0, one, 1)
    return columns


def _half(side: np.ndarray) -> np.ndarray:
    return np.asarray((side + 1) // 2)
