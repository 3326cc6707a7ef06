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
        for a, b in zip(getattr(one, name), getattr(other, name), strict=False):
            if name == "mixers":
                steps += 2.0 * (a != b)
            else:
                steps += abs(math.log(a / b)) / math.log(2)
    steps += 4.0 * abs(one.stages - other.stages) + len(_extras(one) ^ _extras(other))
    return steps + sum(abs(math.log2(a / b)) for a, b in zip(one.patch_kernels, other.patch_kernels, strict=False))


def _extras(config: FastViTConfig) -> set[str]:
    """What Apple's successors have and the published seven have not, in words."""
    found = {f"SE before stage {i + 2}" for i, se in enumerate(config.patch_se) if se}
    found |= {"GELU in patch embeddings"} if config.patch_act else set()
    return found | ({"LayerNorm before attention"} if config.attention_norm == "layer" else set())


def nearest_preset(config: FastViTConfig) -> str:
    """The published preset that is the fewest steps away."""
    return min(PRESETS, key=lambda name: distance(config, PRESETS[name]))


def in_words(config: FastViTConfig, base: FastViTConfig, most: int | None = None) -> str:
    """What turns `base` into `config`: "stage-3 depth 6 -> 5, ratio 4 -> 3"; "the same" when nothing does.

    Args:
        most: name only so many changes, the largest, and count the others.
    """
    changes: list[tuple[float, int, str]] = []  # steps, stage, words
    stages = max(config.stages, base.stages)
    for stage in range(min(config.stages, base.stages)):
        for name, label in _STAGE_FIELDS:
            old, new = getattr(base, name)[stage], getattr(config, name)[stage]
            if old != new:
                steps = 2.0 if name == "mixers" else abs(math.log2(new / old))
                changes.append((steps, stage, f"{label} {_show(old)} -> {_show(new)}"))
    for index, (old, new) in enumerate(zip(base.patch_kernels, config.patch_kernels, strict=False)):
        if old != new:
            changes.append((abs(math.log2(new / old)), stages + index, f"kernel {old} -> {new}"))
    whole = 2 * stages  # place of what concerns no stage alone
    if config.stages != base.stages:
        changes.append((4.0, whole, f"stages {base.stages} -> {config.stages}"))
    changes += [(1.0, whole, f"with {extra}") for extra in sorted(_extras(config) - _extras(base))]
    changes += [(1.0, whole, f"without {extra}") for extra in sorted(_extras(base) - _extras(config))]
    named = sorted(range(len(changes)), key=lambda i: -changes[i][0])[:most]
    parts: dict[str, list[str]] = {}
    for index in sorted(named):
        _, place, words = changes[index]
        where = f"stage-{place + 1} " if place < stages else f"patch {place - stages + 1} " if place < whole else ""
        parts.setdefault(where, []).append(words)
    text = "; ".join(f"{where}{', '.join(words)}" for where, words in parts.items())
    rest = len(changes) - len(named)
    return text + (f"; {rest} more changes" if rest > 1 else "; 1 more change" if rest else "") or "the same"


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
