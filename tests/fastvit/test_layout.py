"""Channels last is the same network: the same names, outputs and gradients as in torch's own layout."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastvit import FastViT, FastViTConfig
from fastvit.layout import channels_last

CONFIG = FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2), layer_scale_init=0.5,
                       mixers=("repmixer",) * 3 + ("attention",), drop_path=0.0, head_dim=16)


@pytest.mark.parametrize("branches", [0, 1, 2])
@pytest.mark.parametrize("stem_stride", [2, 4])
def test_outputs_and_gradients_are_the_same(branches: int, stem_stride: int) -> None:
    torch.manual_seed(0)
    plain = FastViT(CONFIG.replace(branches=branches, stem_stride=stem_stride), 5).double().train()
    other = copy.deepcopy(plain)
    channels_last(other)
    images, labels = torch.randn(6, 3, 64, 64, dtype=torch.float64), torch.arange(6) % 5
    found = []
    for net, x in ((plain, images), (other, images.contiguous(memory_format=torch.channels_last))):
        logits = net(x)
        nn.functional.cross_entropy(logits, labels).backward()
        found.append((logits.detach(), {name: p.grad for name, p in net.named_parameters()}, net.state_dict()))
    torch.testing.assert_close(found[1][0], found[0][0])
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, msg=name)
    assert found[0][2].keys() == found[1][2].keys()


def test_no_strided_1x1_convolution_is_left_to_torch() -> None:
    net = FastViT(CONFIG.replace(branches=1), 5)
    strided = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1)]
    assert strided, "the published form has them"
    channels_last(net)
    assert all(type(m) is not nn.Conv2d for m in strided)
