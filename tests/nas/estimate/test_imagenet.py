"""The estimate of ImageNet accuracy from size."""

from __future__ import annotations

import numpy as np

from fastvit import PRESETS
from nas.estimate.imagenet import estimated_top1, published_top1
from space import SearchSpace


def test_every_published_network_lies_in_its_interval() -> None:
    published = published_top1()
    assert len(published) == 12, "seven presets and five ablations"
    for name, (middle, low, high) in zip(PRESETS, estimated_top1(list(PRESETS.values())), strict=True):
        _, top1 = published[f"FastViT-{name.upper()}"]
        assert low <= top1 <= high
        assert abs(middle - top1) < 1
        assert high - low > 1, "twelve points cannot know top-1 to half a point"


def test_intervals_widen_outside_of_what_was_published() -> None:
    smallest, largest = SearchSpace.load("default").smallest_and_largest()
    width = {name: high - low for name, (_, low, high) in zip(
        ("smallest", "s12", "largest"), estimated_top1([smallest, PRESETS["s12"], largest]), strict=True)}
    assert width["smallest"] > 3 * width["s12"]
    assert width["largest"] > 1.2 * width["s12"]
    assert np.isfinite(list(width.values())).all()
