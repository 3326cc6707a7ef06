"""The over-parameterized train form as the lean one: the same function with plain convolutions, still trainable.

Published weights have extra branches; networks that are trained on a CPU have none, which is twice as fast there. A
slice of the main branch alone would lose what the others learned, so they are folded into it first.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fastvit.blocks import LargeKernelConv, MobileOne, RepMixer
from fastvit.model import FastViT


@torch.no_grad()
def to_lean(model: FastViT) -> FastViT:
    """A train form without extra branches that computes what `model` computes in eval mode; `model` stays as it is.

    BatchNorms behind what was folded have the statistics 0 and 1: `settle` takes them anew, before training goes on.
    """
    lean = FastViT(model.config.replace(branches=0), model.num_classes, model.in_channels)
    state = model.state_dict()
    lean.load_state_dict({name: state[name] for name in lean.state_dict()})  # what a branch lacks is a part of it
    theirs = dict(model.named_modules())
    for name, module in lean.named_modules():
        other = theirs[name]
        if isinstance(module, MobileOne):
            assert isinstance(other, MobileOne)
            _write(module.convs[0], *other.affine())
        elif isinstance(module, LargeKernelConv):
            folded = other.fold()  # type: ignore[operator]
            _write(module.large, folded.weight, folded.bias)
    for name, module in lean.named_modules():
        if isinstance(module, RepMixer) and (norm := theirs[name].norm) is not None:
            _without_norm(module.mixer.convs[0], norm)  # type: ignore[arg-type]
    return lean.eval()


def _write(layers: nn.Module, kernel: Tensor, bias: Tensor) -> None:
    """Make convolution + BatchNorm compute convolution + bias."""
    conv, norm = layers.conv, layers.bn
    conv.weight.copy_(kernel)  # type: ignore[operator, union-attr]
    norm.running_mean.zero_()  # type: ignore[operator, union-attr]
    norm.running_var.fill_(1 - norm.eps)  # type: ignore[operator, union-attr]
    norm.weight.fill_(1)  # type: ignore[operator, union-attr]
    norm.bias.copy_(bias)  # type: ignore[operator, union-attr]


def _without_norm(layers: nn.Module, norm: nn.BatchNorm2d) -> None:
    """Take a RepMixer's parallel BatchNorm off its depthwise convolution, as `_write` left that."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    middle = layers.conv.weight.shape[-1] // 2  # type: ignore[union-attr, operator, index]
    layers.conv.weight[:, 0, middle, middle] -= gain  # type: ignore[union-attr, operator, index]
    layers.bn.bias -= norm.bias - gain * norm.running_mean  # type: ignore[union-attr, operator]


@torch.no_grad()
def settle(model: FastViT, images: Iterable[Tensor]) -> None:
    """Give every BatchNorm the statistics of `images` (batches (B, 3, H, W)) without changing what the network computes
    in eval mode: gains and shifts take up the difference."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    sums: dict[nn.Module, list[Tensor]] = {}

    def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        found = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        sums.setdefault(module, []).append(found)

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    try:
        model.eval()
        for batch in images:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for norm in norms:
        assert norm.running_var is not None
        assert norm.running_mean is not None
        mean, square = torch.stack(sums[norm]).mean(0)
        var = (square - mean.square()).clamp_min(0)
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - gain * norm.running_mean.double()
        norm.weight.copy_(gain * (var + norm.eps).sqrt())
        norm.bias.copy_(shift + gain * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
