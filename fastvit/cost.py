"""Parameters, multiply-accumulates and activations of a configuration in closed form. Needs no torch.

GMACs count convolutions, linear layers and both matrix products of attention; BatchNorm, activation
functions, pooling and additions are left out, as is usual. Activations are the outputs of the counted
layers (as in Radosavovic et al., CVPR 2020), for one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fastvit.config import SE_RATIO, SMALL_KERNEL, FastViTConfig, patch_se_width

HEAD_EXPANSION = 2  # the head's depthwise convolution makes 2 * C4 channels


@dataclass(frozen=True)
class BlockCost:
    """One part of the network; `stage` counts from 1; 0 is the stem, the one after the last the head. The blocks of
    one stage are alike: the numbers are those of one, `count` says how many there are."""

    name: str
    stage: int
    params_m: float
    gmacs: float
    activations_m: float
    count: int = 1


@dataclass(frozen=True)
class Cost:
    """Totals of one image: millions of parameters, 1e9 multiply-accumulates, millions of activations."""

    params_m: float
    gmacs: float
    activations_m: float
    blocks: tuple[BlockCost, ...]


class _Count:
    """Running totals of one block in its train or its fused form."""

    def __init__(self, train: bool, branches: int) -> None:
        self.train, self.branches = train, branches
        self.params = self.macs = self.outputs = 0

    def conv(self, c_in: int, c_out: int, kernel: int, pixels: int, *, groups: int = 1, bias: bool = True) -> None:
        weights = c_out * (c_in // groups) * kernel * kernel
        self.params += weights + (c_out if bias else 0)
        self.macs += weights * pixels
        self.outputs += c_out * pixels

    def bn(self, channels: int) -> None:
        self.params += 2 * channels

    def conv_bn(self, c_in: int, c_out: int, kernel: int, pixels: int, *, groups: int = 1) -> None:
        """Convolution + BatchNorm; one convolution with bias once fused."""
        self.conv(c_in, c_out, kernel, pixels, groups=groups, bias=not self.train)
        if self.train:
            self.bn(c_out)

    def mobileone(self, c_in: int, c_out: int, kernel: int, pixels: int, *, groups: int = 1, stride: int = 1,
                  scale: bool = True) -> None:
        self.conv_bn(c_in, c_out, kernel, pixels, groups=groups)
        if not self.train or self.branches == 0:
            return
        for _ in range(self.branches - 1):
            self.conv_bn(c_in, c_out, kernel, pixels, groups=groups)
        if kernel > 1 and scale:
            self.conv_bn(c_in, c_out, 1, pixels, groups=groups)
        if c_in == c_out and stride == 1:
            self.bn(c_out)

    def squeeze_excite(self, channels: int, hidden: int) -> None:
        self.conv(channels, hidden, 1, 1)
        self.conv(hidden, channels, 1, 1)

    def scale(self, channels: int) -> None:
        if self.train:
            self.params += channels

    def block(self, name: str, stage: int, count: int = 1) -> BlockCost:
        return BlockCost(name, stage, self.params / 1e6, self.macs / 1e9, self.outputs / 1e6, count)


def _half(side: int) -> int:
    return (side + 1) // 2


def cost(config: FastViTConfig, resolution: int | tuple[int, int] = 256, num_classes: int = 1000,
         form: str = "fused", in_channels: int = 3) -> Cost:
    """Cost of `config` at `resolution` (pixels, or (height, width)) in its "fused" or "train" form.

    Raises:
        ValueError: the form is unknown.
    """
    if form not in ("fused", "train"):
        raise ValueError(f"form = {form!r}: must be fused or train")
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    # Configurations that differ in branches alone are equal, so these are named.
    train = (config.branches, config.stem_scale) if form == "train" else None
    return _cost(config, train, height, width, num_classes, in_channels)


@lru_cache(maxsize=8192)  # a search asks for the same few hundred before every trial
def _cost(config: FastViTConfig, train: tuple[int, bool] | None, height: int, width: int, num_classes: int,
          in_channels: int) -> Cost:
    """`train`: branches and whether the stem has 1x1 ones; None for the fused form."""
    blocks = []
    branches, stem_scale = train or (0, False)

    def count() -> _Count:
        return _Count(train is not None, branches)

    c = config.widths[0]
    stem = count()
    first, second = {4: (2, 2), 2: (2, 1), 1: (1, 1)}[config.stem_stride]
    if first == 2:
        height, width = _half(height), _half(width)
    stem.mobileone(in_channels, c, SMALL_KERNEL, height * width, stride=first, scale=stem_scale)
    if second == 2:
        height, width = _half(height), _half(width)
    stem.mobileone(c, c, SMALL_KERNEL, height * width, groups=c, stride=second, scale=stem_scale)
    stem.mobileone(c, c, 1, height * width)
    blocks.append(stem.block("stem", 0))

    for stage in range(config.stages):
        c = config.widths[stage]
        if stage:
            c_in, c_mid = config.widths[stage - 1], config.patch_widths[stage - 1]
            kernel = config.patch_kernels[stage - 1]
            height, width = _half(height), _half(width)
            patch = count()
            patch.conv_bn(c_in, c_mid, kernel, height * width, groups=c_in)
            if patch.train and branches and kernel > SMALL_KERNEL:
                patch.conv_bn(c_in, c_mid, SMALL_KERNEL, height * width, groups=c_in)
            if config.patch_se[stage - 1]:
                patch.squeeze_excite(c_mid, patch_se_width(c_mid))
            patch.mobileone(c_mid, c, 1, height * width)
            blocks.append(patch.block("patch embedding", stage + 1))
        pixels = height * width
        if config.has_cpe[stage]:
            cpe = count()
            cpe.conv(c, c, config.cpe_kernel, pixels, groups=c)
            blocks.append(cpe.block("positional encoding", stage + 1))
        one = _block(count(), config, stage, pixels)
        blocks.append(one.block(config.mixers[stage] + " block", stage + 1, config.depths[stage]))

    head, features = count(), c * HEAD_EXPANSION
    head.mobileone(c, features, SMALL_KERNEL, height * width, groups=c)
    squeezed = max(1, int(features * SE_RATIO))
    head.squeeze_excite(features, squeezed)
    if num_classes:
        head.conv(features, num_classes, 1, 1)
    blocks.append(head.block("head", config.stages + 1))
    return Cost(sum(b.count * b.params_m for b in blocks), sum(b.count * b.gmacs for b in blocks),
                sum(b.count * b.activations_m for b in blocks), tuple(blocks))


def _block(n: _Count, config: FastViTConfig, stage: int, pixels: int) -> _Count:
    c, mixer, kernel = config.widths[stage], config.mixers[stage], config.mixer_kernels[stage]
    if mixer == "repmixer":
        n.mobileone(c, c, kernel, pixels, groups=c)
        if n.train and n.branches:
            n.bn(c)
        n.scale(c)
    elif mixer == "attention":
        if n.train:
            n.bn(c)
        n.conv(c, 3 * c, 1, pixels, bias=not n.train)
        n.macs += 2 * pixels * pixels * c  # q k^T and its product with v
        n.outputs += (c // config.head_dim) * pixels * pixels + c * pixels
        n.conv(c, c, 1, pixels)
        n.scale(c)
    elif mixer == "pool":
        n.params += 3 * c if n.train else c  # BatchNorm and layer scale; one gain once fused
    else:  # convmixer: its BatchNorm follows an activation and stays, as a 1x1 depthwise convolution
        n.conv(c, c, kernel, pixels, groups=c)
        n.bn(c)
        if not n.train:
            n.macs += c * pixels
            n.outputs += c * pixels
    n.conv_bn(c, c, config.ffn_kernels[stage], pixels, groups=c)
    hidden = config.hidden_widths[stage]
    n.conv(c, hidden, 1, pixels)
    n.conv(hidden, c, 1, pixels)
    n.scale(c)
    return n


def memory_mb(config: FastViTConfig, resolution: int = 256, num_classes: int = 1000, bytes_each: int = 4) -> float:
    """About how much memory one inference of the fused network takes, in MB of 1e6 bytes: its weights, and the largest
    maps that are alive at once. A runtime's own buffers come on top.
    """
    side = _half(resolution) if config.stem_stride > 1 else resolution
    alive = [in_and_out := 2 * config.widths[0] * side * side, 3 * resolution * resolution + in_and_out // 2]
    side = _half(side) if config.stem_stride == 4 else side
    for stage, (c, hidden) in enumerate(zip(config.widths, config.hidden_widths, strict=True)):
        side = _half(side) if stage else side
        pixels = side * side
        # The residual, and what goes into the ConvFFN's activation and comes out of it.
        alive.append((c + 2 * hidden) * pixels)
        if config.mixers[stage] == "attention":
            # The residual, queries, keys and values, and the attention before and after its softmax.
            alive.append(4 * c * pixels + 2 * (c // config.head_dim) * pixels * pixels)
    return bytes_each * (cost(config, resolution, num_classes).params_m + max(alive) / 1e6)
