"""The algebra of structural reparameterization: train-time branches as one affine map, a plain convolution.

Everything is linear in eval mode, so each rule here is exact; it is computed in float64 and cast
back, which keeps the float32 result within rounding of the train form.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


def conv_like(affine: Affine, *, stride: int, groups: int, like: Tensor) -> nn.Conv2d:
    """A convolution with bias that holds `affine` and keeps the grid at stride 1; dtype and device as `like`'s."""
    kernel, bias = affine
    size = kernel.shape[-1]
    conv = nn.Conv2d(kernel.shape[1] * groups, kernel.shape[0], size, stride=stride, padding=size // 2, groups=groups,
                     device=like.device, dtype=like.dtype)
    return _filled(conv, kernel, bias)


def to_conv(affine: Affine, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with bias that holds `affine`; stride, groups, dtype and device as `like`'s."""
    return conv_like(affine, stride=like.stride[0], groups=like.groups, like=like.weight)


def to_linear(affine: Affine, like: nn.Linear) -> nn.Linear:
    """A linear layer with bias that holds `affine`; dtype and device as `like`'s."""
    weight, bias = affine
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], device=like.weight.device, dtype=like.weight.dtype),
                   weight, bias)


L = TypeVar("L", nn.Conv2d, nn.Linear)


@torch.no_grad()
def _filled(layer: L, weight: Tensor, bias: Tensor) -> L:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(bias)
    return layer
