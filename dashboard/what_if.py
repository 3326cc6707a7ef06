"""Changing a configuration choice by choice, within the space of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastvit.config import FastViTConfig
from space import SearchSpace

FIELDS = {"mixers": "mixer", "depths": "blocks", "widths": "channels", "mlp_ratios": "FFN ratio",
          "mixer_kernels": "mixer kernel", "ffn_kernels": "FFN kernel", "patch_kernels": "patch kernel",
          "patch_se": "patch SE"}


@dataclass(frozen=True)
class Choice:
    """One entry of a configuration that the space lets vary, with what it may be."""

    field: str
    index: int
    options: tuple[Any, ...]
    value: Any

    @property
    def label(self) -> str:
        return FIELDS[self.field]


def choices(space: SearchSpace, config: FastViTConfig) -> list[Choice]:
    """What may be changed, in the order of FIELDS and stages; entries with one option are left out."""
    found = []
    for field in FIELDS:
        for index, options in enumerate(space.choices[field]):
            attention = index < len(config.mixers) and config.mixers[index] == "attention"
            if field == "widths" and attention:
                options = tuple(width for width in options if width % config.head_dim == 0)
            if len(options) < 2 or (field == "mixer_kernels" and attention):
                continue
            value = getattr(config, field)[index]
            # The space writes 4 where the configuration holds 4.0; a select box tells the two apart.
            found.append(Choice(field, index, tuple(options), options[options.index(value)]))
    return found


def changed(space: SearchSpace, config: FastViTConfig, field: str, index: int, value: Any) -> FastViTConfig:
    """`config` with one entry set; a stage that turns to attention takes the nearest width that attention can."""
    values = {field: _put(getattr(config, field), index, value)}
    if field == "mixers" and value == "attention":
        fitting = [width for width in space.choices["widths"][index] if width % config.head_dim == 0]
        nearest = min(fitting, key=lambda width: abs(width - config.widths[index]))
        values["widths"] = _put(config.widths, index, nearest)
    elif field == "mixers" and config.mixer_kernels[index] not in space.choices["mixer_kernels"][index]:
        values["mixer_kernels"] = _put(config.mixer_kernels, index, space.choices["mixer_kernels"][index][0])
    return config.replace(**values)


def changes(config: FastViTConfig, start: FastViTConfig) -> tuple[str, ...]:
    """What turns `start` into `config`, entry by entry, for an address: "depths3:9"."""
    return tuple(f"{field}{index + 1}:{_text(value)}" for field in FIELDS
                 for index, value in enumerate(getattr(config, field)) if value != getattr(start, field)[index])


def with_changes(space: SearchSpace, start: FastViTConfig, said: Sequence[str]) -> FastViTConfig | None:
    """`start` with what `changes` says; None where that is no configuration of the space."""
    values: dict[str, list[Any]] = {}
    for text in said:
        name, _, value = text.partition(":")
        field, index = name[:-1], int(name[-1]) - 1
        if field not in FIELDS or index >= len(getattr(start, field)):
            return None
        options = {_text(option): option for option in space.choices[field][index]}
        if value not in options:
            return None
        values.setdefault(field, list(getattr(start, field)))[index] = options[value]
    try:
        found = start.replace(**{field: tuple(entries) for field, entries in values.items()})
    except ValueError:
        return None
    return found if found in space else None


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _put(entries: Sequence[Any], index: int, value: Any) -> tuple[Any, ...]:
    return (*entries[:index], value, *entries[index + 1:])
