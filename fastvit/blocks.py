"""The blocks of FastViT in their train form (B, C, H, W); `fold()` gives each one's deployed form.

Names follow the paper (Vasu et al., "FastViT", ICCV 2023) and MobileOne (Vasu et al., CVPR 2023); what MobileCLIP
(CVPR 2024) and its successors changed is named where it stands. A Foldable is replaced as a whole by
fastvit.fuse.reparameterize, or by timm's reparameterize_model, which calls `fuse()`; the folded modules at the end of
this file hold plain convolutions only. Everything can be compiled by torch.jit.script.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvit import algebra
from fastvit.config import SE_RATIO, SMALL_KERNEL, patch_se_width


def conv_bn(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias + BatchNorm; spatial size kept at stride 1."""
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(c_out))
    return layers


def _affine(layers: nn.Sequential) -> algebra.Affine:
    return algebra.conv_bn(layers.conv, layers.bn)  # type: ignore[arg-type]


class Foldable(nn.Module):
    """A block that reparameterization replaces by its deployed form."""

    def fold(self) -> nn.Module:
        """The deployed form, which may share modules with this one."""
        raise NotImplementedError

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """`fold()` in this block's mode; its parameters are trainable if any of this block's is."""
        trainable = any(parameter.requires_grad for parameter in self.parameters())
        return self.fold().requires_grad_(trainable).train(self.training)


class SqueezeExcite(nn.Module):
    """Channel gate from the global average (Hu et al., CVPR 2018), as in MobileOne."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.expand(gate).sigmoid()


class LayerScale(nn.Module):
    """Learned gain per channel."""

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole samples while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty([x.shape[0], 1, 1, 1]).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class MobileOne(Foldable):
    """MobileOne block (section 3.1 there): parallel k x k, 1x1 (`scale`) and identity branches, each with
    BatchNorm, summed; then SE and GELU where asked for. `branches` = 0 is one convolution + BatchNorm.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, *, branches: int, stride: int = 1,
                 groups: int = 1, scale: bool = True, se: bool = False, act: bool = True) -> None:
        super().__init__()
        self.kernel = kernel
        lean = branches == 0
        self.convs = nn.ModuleList(conv_bn(c_in, c_out, kernel, stride=stride, groups=groups)
                                   for _ in range(max(1, branches)))
        scaled = scale and kernel > 1 and not lean
        self.scale = conv_bn(c_in, c_out, 1, stride=stride, groups=groups) if scaled else None
        self.identity = nn.BatchNorm2d(c_out) if c_in == c_out and stride == 1 and not lean else None
        self.se = SqueezeExcite(c_out, max(1, int(c_out * SE_RATIO))) if se else None
        self.act = nn.GELU() if act else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.convs[0](x)
        for number, conv in enumerate(self.convs):
            if number > 0:
                out = out + conv(x)
        if self.scale is not None:
            out = out + self.scale(x)
        if self.identity is not None:
            out = out + self.identity(x)
        if self.se is not None:
            out = self.se(out)
        return out if self.act is None else self.act(out)

    def first_conv(self) -> nn.Conv2d:
        return self.convs[0].conv  # type: ignore[union-attr, return-value]

    def affine(self) -> algebra.Affine:
        """Kernel and bias of all branches together."""
        parts = [_affine(conv) for conv in self.convs]  # type: ignore[arg-type]
        if self.scale is not None:
            parts.append(_affine(self.scale))
        if self.identity is not None:
            parts.append(algebra.identity_bn(self.identity, self.first_conv().groups, self.kernel))
        return algebra.add(parts, self.kernel)

    def fold(self) -> nn.Module:
        parts = [algebra.to_conv(self.affine(), self.first_conv()), self.se, self.act]
        kept = [part for part in parts if part is not None]
        return kept[0] if len(kept) == 1 else nn.Sequential(*kept)


class LargeKernelConv(Foldable):
    """Depthwise large-kernel convolution + BatchNorm with a parallel 3x3 one (section 3.3).

    Nothing follows the sum as published; MobileCLIP has SE and GELU there.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int, branches: int, se: bool = False,
                 act: bool = False) -> None:
        super().__init__()
        self.kernel = kernel
        self.large = conv_bn(c_in, c_out, kernel, stride=stride, groups=c_in)
        parallel = kernel > SMALL_KERNEL and branches > 0
        self.small = conv_bn(c_in, c_out, SMALL_KERNEL, stride=stride, groups=c_in) if parallel else None
        self.se = SqueezeExcite(c_out, patch_se_width(c_out)) if se else None
        self.act = nn.GELU() if act else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.large(x)
        if self.small is not None:
            out = out + self.small(x)
        if self.se is not None:
            out = self.se(out)
        return out if self.act is None else self.act(out)

    def fold(self) -> nn.Module:
        parts = [_affine(self.large)] + ([] if self.small is None else [_affine(self.small)])
        conv = algebra.to_conv(algebra.add(parts, self.kernel), self.large.conv)  # type: ignore[arg-type]
        kept = [part for part in (conv, self.se, self.act) if part is not None]
        return conv if len(kept) == 1 else nn.Sequential(*kept)


class PatchEmbed(nn.Sequential):
    """Between two stages: halves the grid (B, C_in, H, W) -> (B, C_out, ceil(H/2), ceil(W/2))."""

    def __init__(self, c_in: int, c_mid: int, c_out: int, kernel: int, *, branches: int, se: bool = False,
                 act: bool = False) -> None:
        super().__init__(LargeKernelConv(c_in, c_mid, kernel, stride=2, branches=branches, se=se, act=act),
                         MobileOne(c_mid, c_out, 1, branches=branches))


class ConditionalPositionalEncoding(Foldable):
    """x + depthwise convolution of x (Chu et al., 2021); linear, so it folds to one convolution."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)

    def fold(self) -> nn.Module:
        kernel, bias = algebra.conv_bn(self.conv, None)
        skip = algebra.identity_kernel(self.conv.in_channels, self.conv.groups, kernel.shape[-1], kernel)
        return algebra.to_conv((kernel + skip, bias), self.conv)


class ConvFFN(nn.Module):
    """Depthwise k x k convolution + BatchNorm, 1x1 up, GELU, 1x1 down (section 3.3)."""

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.dw = conv_bn(channels, channels, kernel, groups=channels)
        self.up = nn.Conv2d(channels, hidden, 1)
        self.act = nn.GELU()
        self.down = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(self.dw(x))))

    def folded(self, scale: LayerScale) -> nn.Sequential:
        """The deployed FFN with the layer scale that follows it inside the last convolution."""
        gain = scale.gamma.double()
        kernel, bias = algebra.conv_bn(self.down, None)
        return nn.Sequential(algebra.to_conv(_affine(self.dw), self.dw.conv),  # type: ignore[arg-type]
                             self.up, self.act,
                             algebra.to_conv((kernel * gain.view(-1, 1, 1, 1), bias * gain.flatten()), self.down))


class RepMixer(Foldable):
    """y = x + g (mixer(x) - norm(x)) (equation 2 of the paper, with layer scale g).

    Folds to one depthwise convolution, W = I + g (W_mixer - W_norm), b = g (b_mixer - b_norm)
    (equation 4): no skip connection is left. The lean form (branches = 0) has no norm branch.
    """

    def __init__(self, channels: int, kernel: int, *, branches: int, layer_scale: float) -> None:
        super().__init__()
        self.mixer = MobileOne(channels, channels, kernel, branches=branches, groups=channels, act=False)
        self.norm = nn.BatchNorm2d(channels) if branches else None
        self.scale = LayerScale(channels, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixer(x)
        if self.norm is not None:
            mixed = mixed - self.norm(x)
        return x + self.scale(mixed)

    def fold(self) -> nn.Module:
        like, size = self.mixer.first_conv(), self.mixer.kernel
        kernel, bias = self.mixer.affine()
        if self.norm is not None:
            norm_kernel, norm_bias = algebra.identity_bn(self.norm, like.groups, size)
            kernel, bias = kernel - norm_kernel, bias - norm_bias
        gain = self.scale.gamma.double()
        skip = algebra.identity_kernel(like.in_channels, like.groups, size, kernel)
        return algebra.to_conv((skip + gain.view(-1, 1, 1, 1) * kernel, gain.flatten() * bias), like)


class PoolMixer(Foldable):
    """PoolFormer's token mixer, the paper's baseline: x + g (pool(n) - n) with n = BN(x) (Yu et al., CVPR 2022)."""

    def __init__(self, channels: int, kernel: int, *, layer_scale: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.AvgPool2d(kernel, 1, kernel // 2, count_include_pad=False)
        self.scale = LayerScale(channels, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        return x + self.scale(self.pool(n) - n)

    def fold(self) -> nn.Module:
        # The shift of the norm cancels in pool(n) - n: the average counts no padding, so it keeps constants.
        scale, _ = algebra.bn_affine(self.norm)
        gain = (scale * self.scale.gamma.double().flatten()).to(self.norm.weight.dtype)
        return FoldedPoolMixer(gain.view(-1, 1, 1), self.pool)


class ConvMixer(Foldable):
    """ConvMixer's token mixer, the paper's baseline (equation 1): Y = BN(act(DWConv(X))) + X.

    The activation inside keeps the skip connection from being folded; only the BatchNorm's affine is.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.act = nn.GELU()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.act(self.conv(x)))

    def fold(self) -> nn.Module:
        # BN after a GELU has no convolution to go into; as a 1x1 depthwise one it is still no BatchNorm.
        affine = algebra.to_conv(algebra.identity_bn(self.norm, self.norm.num_features, 1), self.conv)
        return Residual(nn.Sequential(self.conv, self.act, affine))


class Attention(nn.Module):
    """Multi-head self-attention over the H*W tokens of (B, C, H, W); qkv without bias, as published."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend(self.qkv(x), self.head_dim, scale=self.scale))


def attend(qkv: Tensor, head_dim: int, *, scale: float) -> Tensor:
    """Attention of the stacked queries, keys and values (B, 3C, H, W) -> (B, C, H, W)."""
    batch, channels, height, width = qkv.shape
    heads = channels // (3 * head_dim)
    # (B, 3, heads, d, N) -> (B, heads, N, d) each
    q, k, v = qkv.reshape(batch, 3, heads, head_dim, height * width).transpose(3, 4).unbind(1)
    out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return out.transpose(2, 3).reshape(batch, channels // 3, height, width)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W), as MobileCLIP2 has it before attention."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class AttentionMixer(Foldable):
    """x + g Attention(norm(x)) (section 3.3), with drop path on the residual branch; norm is "batch" or "layer"."""

    def __init__(self, channels: int, head_dim: int, *, layer_scale: float, drop_path: float,
                 norm: str = "batch") -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels) if norm == "layer" else nn.BatchNorm2d(channels)
        self.attention = Attention(channels, head_dim)
        self.scale = LayerScale(channels, layer_scale)
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.scale(self.attention(self.norm(x))))

    def fold(self) -> nn.Module:
        """The norm's affine into qkv (which gains a bias), 1/sqrt(d) into its queries, layer scale into proj.

        A BatchNorm is gone then; of a LayerNorm the division by each position's own spread stays.
        """
        layer = isinstance(self.norm, nn.LayerNorm)
        scale, shift = ((self.norm.weight.double(), self.norm.bias.double()) if layer
                        else algebra.bn_affine(self.norm))  # type: ignore[arg-type]
        kernel, bias = algebra.conv_bn(self.attention.qkv, None)
        bias = bias + kernel.flatten(1) @ shift
        kernel = kernel * scale.view(1, -1, 1, 1)
        queries = kernel.new_ones(kernel.shape[0])
        queries[: kernel.shape[1]] = self.attention.scale
        qkv = algebra.to_conv((kernel * queries.view(-1, 1, 1, 1), bias * queries), self.attention.qkv)
        gain = self.scale.gamma.double()
        kernel, bias = algebra.conv_bn(self.attention.proj, None)
        proj = algebra.to_conv((kernel * gain.view(-1, 1, 1, 1), bias * gain.flatten()), self.attention.proj)
        attention = FoldedAttention(qkv, proj, self.attention.head_dim)
        if not layer:
            return Residual(attention)
        plain = LayerNorm2d(self.norm.normalized_shape, self.norm.eps, elementwise_affine=False)
        return Residual(nn.Sequential(plain, attention))


class Block(Foldable):
    """Token mixer, then ConvFFN: t = mixer(x); out = t + DropPath(g ConvFFN(t)), all (B, C, H, W)."""

    def __init__(self, mixer: nn.Module, ffn: ConvFFN, channels: int, *, layer_scale: float,
                 drop_path: float) -> None:
        super().__init__()
        self.mixer = mixer
        self.ffn = ffn
        self.scale = LayerScale(channels, layer_scale)
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixer(x)
        return x + self.drop(self.scale(self.ffn(x)))

    def fold(self) -> nn.Module:
        mixer: nn.Module = self.mixer.fold()  # type: ignore[operator]
        return nn.Sequential(mixer, Residual(self.ffn.folded(self.scale)))


class Residual(nn.Module):
    """x + inner(x): a skip connection that reparameterization cannot remove."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class FoldedAttention(nn.Module):
    """Attention whose norm, 1/sqrt(d) and layer scale live in its two 1x1 convolutions."""

    def __init__(self, qkv: nn.Conv2d, proj: nn.Conv2d, head_dim: int) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.head_dim = head_dim

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend(self.qkv(x), self.head_dim, scale=1.0))


class FoldedPoolMixer(nn.Module):
    """x + gain (pool(x) - x), gain (C, 1, 1)."""

    def __init__(self, gain: Tensor, pool: nn.AvgPool2d) -> None:
        super().__init__()
        self.gain = nn.Parameter(gain)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * (self.pool(x) - x)


# What only a folded network holds, by which an already folded one is known; every folded Block has a Residual.
FOLDED = (Residual,)
