"""FastViT(config): the network in its train form; fastvit.fuse.reparameterize gives the deployed one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvit.blocks import (
    AttentionMixer,
    Block,
    ConditionalPositionalEncoding,
    ConvFFN,
    ConvMixer,
    MobileOne,
    PatchEmbed,
    PoolMixer,
    RepMixer,
)
from fastvit.config import SMALL_KERNEL, FastViTConfig

HEAD_EXPANSION = 2  # the head's depthwise convolution makes 2 * C4 channels


def _mixer(config: FastViTConfig, stage: int, drop_path: float) -> nn.Module:
    kind, width, kernel = config.mixers[stage], config.widths[stage], config.mixer_kernels[stage]
    scale = config.layer_scale_init
    if kind == "repmixer":
        return RepMixer(width, kernel, branches=config.branches, layer_scale=scale)
    if kind == "attention":
        return AttentionMixer(width, config.head_dim, layer_scale=scale, drop_path=drop_path,
                              norm=config.attention_norm)
    if kind == "pool":
        return PoolMixer(width, kernel, layer_scale=scale)
    return ConvMixer(width, kernel)


class FastViT(nn.Module):
    """FastViT (Vasu et al., ICCV 2023) as `config` describes it.

    Args:
        config: the architecture.
        num_classes: outputs of the classifier; 0 leaves it out, and forward gives pooled features.
        in_channels: channels of the input image.

    Raises:
        ValueError: num_classes is negative or in_channels is not positive.
    """

    def __init__(self, config: FastViTConfig, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        if num_classes < 0:
            raise ValueError(f"num_classes = {num_classes}: must be 0 (no classifier) or more")
        if in_channels < 1:
            raise ValueError(f"in_channels = {in_channels}: must be at least 1")
        self.config = config
        self.num_classes = num_classes
        self.in_channels = in_channels
        widths, branches = config.widths, config.branches
        first, second = {4: (2, 2), 2: (2, 1), 1: (1, 1)}[config.stem_stride]
        self.stem = nn.Sequential(
            MobileOne(in_channels, widths[0], SMALL_KERNEL, stride=first, branches=branches, scale=config.stem_scale),
            MobileOne(widths[0], widths[0], SMALL_KERNEL, stride=second, groups=widths[0], branches=branches,
                      scale=config.stem_scale),
            MobileOne(widths[0], widths[0], 1, branches=branches))
        total = sum(config.depths)
        rates = torch.linspace(0, config.drop_path, total, device="cpu").tolist()
        self.stages = nn.ModuleList()
        for stage in range(config.stages):
            layers = nn.Sequential()
            if stage:
                layers.add_module("downsample", PatchEmbed(
                    widths[stage - 1], config.patch_widths[stage - 1], widths[stage],
                    config.patch_kernels[stage - 1], branches=branches, se=config.patch_se[stage - 1],
                    act=config.patch_act))
            if config.has_cpe[stage]:
                layers.add_module("cpe", ConditionalPositionalEncoding(widths[stage], config.cpe_kernel))
            start = sum(config.depths[:stage])
            layers.add_module("blocks", nn.Sequential(*(
                Block(_mixer(config, stage, rate),
                      ConvFFN(widths[stage], config.hidden_widths[stage], config.ffn_kernels[stage]),
                      widths[stage], layer_scale=config.layer_scale_init, drop_path=rate)
                for rate in rates[start:start + config.depths[stage]])))
            self.stages.append(layers)
        self.num_features = widths[-1] * HEAD_EXPANSION
        self.expand = MobileOne(widths[-1], self.num_features, SMALL_KERNEL, groups=widths[-1],
                                branches=branches, se=True)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.apply(_init)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the maps (B, widths[i], H / strides[i], W / strides[i]) of the stages,
        finest first, each after its stage's last block. Sides that the stride does not divide round up."""
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_head(self, x: Tensor) -> Tensor:
        """The last stage's map (B, C4, H, W) -> logits (B, num_classes), or features (B, 2 * C4)."""
        return self.head(self.expand(x).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes), or features (B, 2 * C4) when num_classes is 0."""
        return self.forward_head(self.forward_features(x)[-1])


def _init(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
