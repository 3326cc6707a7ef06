"""The algebra of structural reparameterization: train-time branches folded into plain convolutions.

Everything is linear in eval mode, so each rule here is exact; it is computed in float64 and cast
back, which keeps the float32 result within rounding of the train form.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)
Affine = tuple[Tensor, Tensor]  # convolution kernel (C_out, C_in / groups, k, k) and bias (C_out,)


def bn_affine(bn: nn.BatchNorm2d) -> Affine:
    """The scale and shift (C,) that an eval-mode BatchNorm applies, in float64.

    Raises:
        ValueError: the BatchNorm keeps no running statistics, so it has no eval-mode form.
    """
    if bn.running_var is None or bn.running_mean is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded; use track_running_stats=True")
    scale = (bn.running_var.double() + bn.eps).rsqrt()
    if bn.affine:
        scale = scale * bn.weight.double()
    shift = -bn.running_mean.double() * scale
    return scale, shift + bn.bias.double() if bn.affine else shift


def conv_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> Affine:
    """Kernel and bias of bn(conv(x)), in float64."""
    kernel = conv.weight.double()
    bias = kernel.new_zeros(kernel.shape[0]) if conv.bias is None else conv.bias.double()
    if bn is None:
        return kernel, bias
    scale, shift = bn_affine(bn)
    return kernel * scale.view(-1, 1, 1, 1), bias * scale + shift


def identity_kernel(channels: int, groups: int, size: int, like: Tensor) -> Tensor:
    """The kernel (C, C / groups, k, k) of a grouped convolution that returns its input."""
    per_group = channels // groups
    kernel = like.new_zeros(channels, per_group, size, size)
    index = torch.arange(channels, device=like.device)
    kernel[index, index % per_group, size // 2, size // 2] = 1
    return kernel


def identity_bn(bn: nn.BatchNorm2d, groups: int, size: int) -> Affine:
    """bn(x) as a convolution with `groups` groups."""
    scale, shift = bn_affine(bn)
    return identity_kernel(bn.num_features, groups, size, scale) * scale.view(-1, 1, 1, 1), shift


def pad_kernel(kernel: Tensor, size: int) -> Tensor:
    """A smaller odd kernel in the centre of a `size` x `size` one."""
    return F.pad(kernel, [(size - kernel.shape[-1]) // 2] * 4)


def add(branches: list[Affine], size: int) -> Affine:
    """Parallel convolutions of equal stride and groups as one with a `size` x `size` kernel."""
    kernels = [pad_kernel(kernel, size) for kernel, _ in branches]
    return torch.stack(kernels).sum(0), torch.stack([bias for _, bias in branches]).sum(0)


def to_conv(affine: Affine, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with bias that holds `affine`; stride, groups, dtype and device as `like`'s."""
    kernel, bias = affine
    size = kernel.shape[-1]
    conv = nn.Conv2d(kernel.shape[1] * like.groups, kernel.shape[0], size, stride=like.stride[0],
                     padding=size // 2, groups=like.groups, device=like.weight.device, dtype=like.weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(kernel)
        conv.bias.copy_(bias)  # type: ignore[union-attr]
    return conv


@torch.no_grad()
def reparameterize(model: M) -> M:
    """The deployed form of `model`: every block of fastvit.blocks inside it folded, in eval mode.

    A new module; the original keeps its form and its mode. A model in train mode is folded in its eval
    form. Works on a FastViT and on any module that contains one (a detector, a segmenter); a model that
    is already folded is only copied. All parameters of the result can be trained, whatever was frozen in
    the original: a deployed network can be fine-tuned whole.
    """
    deployed = copy.deepcopy(model).eval()
    for parameter in deployed.parameters():
        parameter.requires_grad_(False)  # folding is no part of a gradient
    folded = _folded(deployed)
    for parameter in folded.parameters():
        parameter.requires_grad_(True)
    return folded  # type: ignore[return-value]


def _folded(module: nn.Module) -> nn.Module:
    if hasattr(module, "fold"):
        return module.fold().eval()  # type: ignore[operator, no-any-return]
    for name, child in module.named_children():
        setattr(module, name, _folded(child))
    return module
