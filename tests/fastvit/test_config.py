"""A configuration is validated before any module is built, and one network has one key."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

import pytest

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
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


# Huge, infinite, of another kind: whatever stands in a file or a request.
ODD = [2 * 10**8, 10**400, float("inf"), float("nan"), -1, True, "x" * 10**6, None, [[]], {"a": 1}]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(T8) 
                                  if field.name not in ("cpe", "patch_se", "patch_act", "stem_scale")])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: reprlib.repr(odd))
def test_no_field_takes_what_is_odd(name: str, odd: Any) -> None:
    value = (*getattr(T8, name)[:-1], odd) if isinstance(getattr(T8, name), tuple) else odd
    for make in (lambda: T8.replace(**{name: value}), lambda: FastViTConfig.from_dict(T8.to_dict() | {name: value}),
                 lambda: T8.replace(**{name: [odd] * 10**6})):
        with pytest.raises(ValueError, match=name) as caught:
            make()
        assert len(str(caught.value)) < 500


def test_a_size_is_counted_without_listing_it() -> None:
    """The largest network that a configuration may describe takes no more to count than the smallest."""
    largest = T8.replace(depths=(256,) * 4, widths=(8192,) * 4, mlp_ratios=(64,) * 4, branches=32)
    for form in ("fused", "train"):
        assert len(cost(largest, 2048, form=form).blocks) == len(cost(T8, 2048, form=form).blocks)
    one, many = (cost(T8.replace(depths=(2, 2, depth, 2))) for depth in (1, 201))
    block = next(block for block in many.blocks if block.count == 201)
    assert many.gmacs - one.gmacs == pytest.approx(200 * block.gmacs)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"depths": ' + "[" * 10**5, "9" * 5000, "nul", ""])
def test_texts_that_are_no_configuration(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        FastViTConfig.from_json(text)


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
