"""The published FastViTs as configurations: T8 .. MA36 (paper, table 2) and the ablations V1 .. V5 (table 4)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from fastvit.config import FastViTConfig

_REPMIXER = ("repmixer",) * 4
_ATTENTION_LAST = ("repmixer", "repmixer", "repmixer", "attention")
_WIDTHS_S = (64, 128, 256, 512)
_NO_LARGE_KERNELS: dict[str, Any] = {"ffn_kernels": (3, 3, 3, 3), "patch_kernels": (3, 3, 3)}


def _preset(depths: tuple[int, ...], widths: tuple[int, ...], ratio: float, mixers: tuple[str, ...],
            **rest: Any) -> FastViTConfig:
    return FastViTConfig(depths=depths, widths=widths, mlp_ratios=(ratio,) * 4, mixers=mixers, **rest)


PRESETS: dict[str, FastViTConfig] = {
    "t8": _preset((2, 2, 4, 2), (48, 96, 192, 384), 3, _REPMIXER),
    "t12": _preset((2, 2, 6, 2), _WIDTHS_S, 3, _REPMIXER),
    "s12": _preset((2, 2, 6, 2), _WIDTHS_S, 4, _REPMIXER),
    "sa12": _preset((2, 2, 6, 2), _WIDTHS_S, 4, _ATTENTION_LAST, drop_path=0.1),
    "sa24": _preset((4, 4, 12, 4), _WIDTHS_S, 4, _ATTENTION_LAST, drop_path=0.1),
    "sa36": _preset((6, 6, 18, 6), _WIDTHS_S, 4, _ATTENTION_LAST, drop_path=0.2, layer_scale_init=1e-6),
    "ma36": _preset((6, 6, 18, 6), (76, 152, 304, 608), 4, _ATTENTION_LAST, drop_path=0.35,
                    layer_scale_init=1e-6),
}

# Kept apart from PRESETS: nobody deploys them, and no anchor is drawn for them.
ABLATIONS: dict[str, FastViTConfig] = {
    "v1": _preset((2, 2, 6, 2), _WIDTHS_S, 4, _REPMIXER, **_NO_LARGE_KERNELS),
    "v2": _preset((2, 2, 6, 2), _WIDTHS_S, 4, _ATTENTION_LAST, **_NO_LARGE_KERNELS),
    "v3": _preset((2, 2, 6, 2), _WIDTHS_S, 4, ("repmixer", "repmixer", "attention", "attention"),
                  **_NO_LARGE_KERNELS),
    "v4": _preset((2, 2, 6, 2), _WIDTHS_S, 4, _REPMIXER),
    "v5": _preset((2, 2, 6, 2), _WIDTHS_S, 4, _ATTENTION_LAST),
}


def named_config(text: str) -> tuple[str, FastViTConfig]:
    """A preset or ablation by name, or the configuration in a JSON file; with the name to show.

    Raises:
        ValueError: neither, with the nearest preset name as a suggestion.
    """
    known = PRESETS | ABLATIONS
    if (name := text.lower().removeprefix("fastvit_")) in known:
        return name, known[name]
    path = Path(text)
    if path.is_file():
        return path.stem, FastViTConfig.from_json(path.read_text(encoding="utf-8"))
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(f"{text!r} is neither a preset ({', '.join(PRESETS)}) nor a configuration file{hint}")
