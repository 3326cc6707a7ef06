"""How one configuration differs from another, in words."""

from __future__ import annotations

import math

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS

_STAGE_FIELDS = (("depths", "depth"), ("widths", "width"), ("mlp_ratios", "ratio"), ("mixers", "mixer"),
                 ("mixer_kernels", "mixer kernel"), ("ffn_kernels", "FFN kernel"))


def distance(one: FastViTConfig, other: FastViTConfig) -> float:
    """A rough count of steps between two configurations: log ratios of sizes, one for each other mixer or kernel."""
    steps = 0.0
    for name, _ in _STAGE_FIELDS:
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            if name == "mixers":
                steps += 2.0 * (a != b)
            else:
                steps += abs(math.log(a / b)) / math.log(2)
    return steps + sum(abs(math.log2(a / b)) for a, b in zip(one.patch_kernels, other.patch_kernels, strict=True))


def nearest_preset(config: FastViTConfig) -> str:
    """The published preset that is the fewest steps away."""
    return min(PRESETS, key=lambda name: distance(config, PRESETS[name]))


def in_words(config: FastViTConfig, base: FastViTConfig, most: int | None = None) -> str:
    """What turns `base` into `config`: "stage-3 depth 6 -> 5, ratio 4 -> 3"; "the same" when nothing does.

    Args:
        most: name only so many changes, the largest, and count the others.
    """
    changes: list[tuple[float, int, str]] = []  # steps, stage, words
    for stage in range(len(config.depths)):
        for name, label in _STAGE_FIELDS:
            old, new = getattr(base, name)[stage], getattr(config, name)[stage]
            if old != new:
                steps = 2.0 if name == "mixers" else abs(math.log2(new / old))
                changes.append((steps, stage, f"{label} {_show(old)} -> {_show(new)}"))
    for index, (old, new) in enumerate(zip(base.patch_kernels, config.patch_kernels, strict=True)):
        if old != new:
            changes.append((abs(math.log2(new / old)), len(config.depths) + index, f"kernel {old} -> {new}"))
    named = sorted(range(len(changes)), key=lambda i: -changes[i][0])[:most]
    parts: dict[str, list[str]] = {}
    for index in sorted(named):
        _, place, words = changes[index]
        stages = len(config.depths)
        parts.setdefault(f"stage-{place + 1}" if place < stages else f"patch {place - stages + 1}", []).append(words)
    text = "; ".join(f"{place} {', '.join(words)}" for place, words in parts.items())
    rest = len(changes) - len(named)
    return text + (f"; {rest} more changes" if rest > 1 else "; 1 more change" if rest else "") or "the same"


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
