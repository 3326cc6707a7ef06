"""timm's FastViT folded completely, where its own reparameterize() leaves BatchNorms and layer scales.

Blocks keep timm's classes and names (`reparam_conv`), so features_only, forward_intermediates and the head work on.
timm is looked up, never imported: a model of its classes exists only where it is loaded.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from torch import nn

from fastvit import algebra

_BLOCKS = ("MobileOneBlock", "ReparamLargeKernelConv", "RepConditionalPosEnc", "RepMixerBlock", "AttentionBlock",
           "RepMixer")


def _timm() -> ModuleType | None:
    return sys.modules.get("timm.models.fastvit")


def is_block(module: nn.Module) -> bool:
    """Whether `module` is a block of timm's FastViT that `fold` folds whole."""
    timm = _timm()
    return timm is not None and isinstance(module, tuple(getattr(timm, name) for name in _BLOCKS))


def fold(module: Any) -> nn.Module:
    """The deployed form of a block of timm's, in place: exact in eval mode, computed in float64.

    A block that timm has fused already keeps its convolution; what timm leaves is folded.
    """
    trainable = any(parameter.requires_grad for parameter in module.parameters())
    kind = next(name for name in _BLOCKS if isinstance(module, getattr(_timm(), name)))
    _FOLD[kind](module)
    folded: nn.Module = module.requires_grad_(trainable)
    return folded


def _conv_bn(layer: Any) -> algebra.Affine:
    """timm's ConvNormAct without activation."""
    return algebra.conv_bn(layer.conv, layer.bn)


def _drop(module: nn.Module, *names: str) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _mobileone_affine(block: Any) -> algebra.Affine:
    if block.reparam_conv is not None:
        return algebra.conv_bn(block.reparam_conv, None)
    parts = [_conv_bn(conv) for conv in block.conv_kxk or ()]
    if block.conv_scale is not None:
        parts.append(_conv_bn(block.conv_scale))
    if block.identity is not None:
        parts.append(algebra.identity_bn(block.identity, block.groups, block.kernel_size))
    return algebra.add(parts, block.kernel_size)


def _mobileone(block: Any) -> None:
    if block.reparam_conv is None:
        conv = algebra.conv_like(_mobileone_affine(block), stride=block.stride, groups=block.groups,
                                 like=next(block.parameters()))
        _drop(block, "conv_kxk", "conv_scale", "identity")
        block.reparam_conv, block.inference_mode = conv, True


def _large_kernel(block: Any) -> None:
    if block.reparam_conv is None:
        small = getattr(block, "small_conv", None)
        parts = [_conv_bn(block.large_conv)] + ([] if small is None else [_conv_bn(small)])
        conv = algebra.to_conv(algebra.add(parts, block.kernel_size), block.large_conv.conv)
        _drop(block, "large_conv", "small_conv")
        block.reparam_conv = conv


def _position(block: Any) -> None:
    if block.reparam_conv is None:
        kernel, bias = algebra.conv_bn(block.pos_enc, None)
        skip = algebra.identity_kernel(block.dim, block.groups, kernel.shape[-1], kernel)
        conv = algebra.to_conv((kernel + skip, bias), block.pos_enc)
        _drop(block, "pos_enc")
        block.reparam_conv = conv


def _repmixer(block: Any) -> None:
    if block.reparam_conv is None:
        mixer, norm = _mobileone_affine(block.mixer), _mobileone_affine(block.norm)
        kernel, bias = mixer[0] - norm[0], mixer[1] - norm[1]
        gain = _gain(block.layer_scale, kernel)
        skip = algebra.identity_kernel(block.dim, block.dim, block.kernel_size, kernel)
        conv = algebra.conv_like((skip + gain.view(-1, 1, 1, 1) * kernel, gain * bias), stride=1, groups=block.dim,
                                 like=next(block.parameters()))
        _drop(block, "mixer", "norm", "layer_scale")
        block.reparam_conv, block.inference_mode = conv, True


def _gain(scale: Any, like: Any) -> Any:
    """The gains (C,) of a LayerScale2d in float64; ones for the Identity in its place."""
    return scale.gamma.double().flatten() if hasattr(scale, "gamma") else like.new_ones(like.shape[0])


def _ffn(mlp: Any, scale: Any) -> nn.Module:
    """The ConvMlp with its BatchNorm inside the first convolution and the layer scale inside the last one."""
    if hasattr(mlp.conv, "bn"):
        mlp.conv = algebra.to_conv(_conv_bn(mlp.conv), mlp.conv.conv)
    kernel, bias = algebra.conv_bn(mlp.fc2, None)
    gain = _gain(scale, kernel)
    mlp.fc2 = algebra.to_conv((kernel * gain.view(-1, 1, 1, 1), bias * gain), mlp.fc2)
    return nn.Identity()


def _repmixer_block(block: Any) -> None:
    _repmixer(block.token_mixer)
    block.layer_scale = _ffn(block.mlp, block.layer_scale)


def _attention_block(block: Any) -> None:
    """A BatchNorm goes into qkv whole; a LayerNorm (MCi3, MCi4) divides by each position's own spread and stays."""
    attention = block.token_mixer
    if isinstance(block.norm, nn.BatchNorm2d):
        scale, shift = algebra.bn_affine(block.norm)
        weight = attention.qkv.weight.double()
        bias = weight @ shift + (0 if attention.qkv.bias is None else attention.qkv.bias.double())
        attention.qkv = algebra.to_linear((weight * scale, bias), attention.qkv)
        block.norm = nn.Identity()
    weight, bias = attention.proj.weight.double(), attention.proj.bias.double()
    gain = _gain(block.layer_scale_1, weight)
    attention.proj = algebra.to_linear((weight * gain.view(-1, 1), bias * gain), attention.proj)
    block.layer_scale_1 = nn.Identity()
    block.layer_scale_2 = _ffn(block.mlp, block.layer_scale_2)


_FOLD = {"MobileOneBlock": _mobileone, "ReparamLargeKernelConv": _large_kernel, "RepConditionalPosEnc": _position,
         "RepMixerBlock": _repmixer_block, "AttentionBlock": _attention_block, "RepMixer": _repmixer}
