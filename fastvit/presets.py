"""The published FastViTs as configurations: T8 .. MA36 (paper, table 2), the ablations V1 .. V5 (table 4) and
Apple's successors MCi0 .. MCi4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastvit.config import FastViTConfig
from fastvit.hint import did_you_mean

_REPMIXER = ("repmixer",) * 4
_ATTENTION_LAST = ("repmixer", "repmixer", "repmixer", "attention")
_WIDTHS_S = (64, 128, 256, 512)
_NO_LARGE_KERNELS: dict[str, Any] = {"ffn_kernels": (3, 3, 3, 3), "patch_kernels": (3, 3, 3)}


def _preset(depths: tuple[int, ...], widths: tuple[int, ...], ratio: float, mixers: tuple[str, ...],
            **rest: Any) -> FastViTConfig:
    return FastViTConfig(depths=depths, widths=widths, mlp_ratios=(ratio,) * len(depths), mixers=mixers, **rest)


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


_MCI: dict[str, Any] = {"patch_se": (False, True, True), "patch_act": True}
_MCI_FIVE: dict[str, Any] = {"patch_act": True, "attention_norm": "layer", "stem_scale": False}
_ATTENTION_LAST_TWO = ("repmixer", "repmixer", "repmixer", "attention", "attention")

# The image encoders of MobileCLIP (Vasu et al., CVPR 2024: MCi0 to MCi2) and MobileCLIP2 (Faghri et al., 2025: MCi3 and
# MCi4, with the five stages of FastVLM's FastViTHD). Apart from PRESETS: they were published for CLIP, without
# ImageNet training from scratch, so nothing that compares the seven with their top-1 may count them in.
SUCCESSORS: dict[str, FastViTConfig] = {
    "mci0": _preset((2, 6, 10, 2), _WIDTHS_S, 3, _ATTENTION_LAST, **_MCI),
    "mci1": _preset((4, 12, 20, 4), _WIDTHS_S, 3, _ATTENTION_LAST, **_MCI),
    "mci2": _preset((4, 12, 24, 4), (80, 160, 320, 640), 3, _ATTENTION_LAST, **_MCI),
    "mci3": _preset((2, 12, 24, 4, 2), (96, 192, 384, 768, 1536), 4, _ATTENTION_LAST_TWO, **_MCI_FIVE),
    "mci4": _preset((2, 12, 24, 4, 4), (128, 256, 512, 1024, 2048), 4, _ATTENTION_LAST_TWO, **_MCI_FIVE),
}


def named_config(text: str) -> tuple[str, FastViTConfig]:
    """A preset, successor or ablation by name, or the configuration in a JSON file; with the name to show.

    Raises:
        ValueError: neither, with the nearest preset name as a suggestion.
    """
    known = PRESETS | SUCCESSORS | ABLATIONS
    if (name := text.lower().removeprefix("fastvit_")) in known:
        return name, known[name]
    path = Path(text)
    if path.is_file():
        return path.stem, FastViTConfig.from_json(path.read_text(encoding="utf-8"))
    raise ValueError(f"{text!r} is neither a preset ({', '.join((*PRESETS, *SUCCESSORS))}) nor a configuration file"
                     + did_you_mean(name, known, cutoff=0.3))
