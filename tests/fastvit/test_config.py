"""A configuration is validated before any module is built, and one network has one key."""

from __future__ import annotations

from typing import Any

import pytest

from fastvit import PRESETS, FastViTConfig
from fastvit.presets import named_config

T8 = PRESETS["t8"]
# Runs and caches outlive a version: a key that changes makes them unreadable.
KEYS = {"t8": "a96c16fdd31c88aa", "t12": "2182bb5e3c57188c",
        "s12": "5820d97f68a705ef", "sa12": "e436a8b07ddf8a51", "sa24": "97e4c7174b87d77e",
        "sa36": "fce8cfe3d0cd689a", "ma36": "c0d66dbac24e85e6"}


@pytest.mark.parametrize(("changes", "words"), [
    ({"depths": (2, 2, -1, 2)}, "-1"),
    ({"depths": (2, 2, 2)}, "expected 4 entries"),
    ({"widths": (48, 96, 192, 380), "mixers": ("repmixer",) * 3 + ("attention",)}, "380"),
    ({"mixer_kernels": (3, 4, 3, 3)}, "odd"),
    ({"ffn_kernels": (7, 7, 7, 0)}, "odd"),
    ({"patch_kernels": (7, 7)}, "expected 3 entries"),
    ({"mixers": ("repmixer", "repmixer", "mixer", "repmixer")}, "'mixer'"),
    ({"mlp_ratios": (3, 3, 3, float("nan"))}, "nan"),
    ({"widths": (48, 96, 192, 3.5)}, "3.5"),
    ({"drop_path": 2}, "drop_path"),
    ({"stem_stride": 3}, "stem_stride"),
    ({"branches": -1}, "branches"),
])
def test_bad_values_are_one_clear_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        T8.replace(**changes)
    assert next(iter(changes)) in str(caught.value) or "attention" in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name: str) -> None:
    config = PRESETS[name]
    assert FastViTConfig.from_json(config.to_json()) == config
    assert FastViTConfig.from_json(config.to_json()).key() == config.key()


def test_keys_are_distinct_and_ignore_training() -> None:
    assert len({config.key() for config in PRESETS.values()}) == len(PRESETS)
    assert T8.replace(branches=0, drop_path=0.3, layer_scale_init=0.1).key() == T8.key()
    attention = PRESETS["sa12"]
    assert attention.replace(mixer_kernels=(3, 3, 3, 7)) == attention  # attention has no kernel


def test_keys_are_stable() -> None:
    assert {name: config.key() for name, config in PRESETS.items()} == KEYS


def test_unknown_field_and_unknown_name() -> None:
    with pytest.raises(ValueError, match="'depth' is no field"):
        FastViTConfig.from_dict(T8.to_dict() | {"depth": 3})
    with pytest.raises(ValueError, match="lacks widths"):
        FastViTConfig.from_dict({k: v for k, v in T8.to_dict().items() if k != "widths"})
    with pytest.raises(ValueError, match="did you mean sa12"):
        named_config("sa122")
