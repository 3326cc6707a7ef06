"""The small network that is trained in place of a configuration."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvit import FastViT
from fastvit.config import FastViTConfig

WIDTH_SHARE = 4  # widths and head_dim are divided by this; depths, ratios, kernels and mixers are kept
STEM_STRIDE = 2  # at 48 px the four grids are 24, 12, 6 and 3 cells wide
LAYER_SCALE = 0.1  # the published 1e-5 hides FFNs and mixers in short runs
DENSE_STAGES = (1, 2)  # whose maps the dense heads read: 12 x 12 and 6 x 6 cells


def proxy_config(config: FastViTConfig, *, branches: int = 0) -> FastViTConfig:
    """`config` narrowed for training: lean unless `branches` asks for the over-parameterized form."""
    head = max(1, config.head_dim // WIDTH_SHARE)
    widths = tuple(head * max(1, round(w / WIDTH_SHARE / head)) if m == "attention" else max(1, round(w / WIDTH_SHARE))
                   for w, m in zip(config.widths, config.mixers, strict=True))
    return config.replace(widths=widths, head_dim=head, stem_stride=STEM_STRIDE, branches=branches,
                          layer_scale_init=LAYER_SCALE, drop_path=0.0)


class ProxyNet(nn.Module):
    """A narrow FastViT with its classifier and, for tasks with dense targets, a linear head on two stages.

    The dense heads start at zero behind a BatchNorm: the loss starts at the targets' variance and falls from
    the first step on, where a classifier alone stays on a plateau for longer than a short run lasts.
    """

    def __init__(self, config: FastViTConfig, num_classes: int, num_maps: int = 0, *, branches: int = 0) -> None:
        super().__init__()
        small = proxy_config(config, branches=branches)
        self.backbone = FastViT(small, num_classes)
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                # The published 0.02 is for hundreds of channels: on tens it would silence every ConvFFN.
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
        self.dense = nn.ModuleList()
        for stage in DENSE_STAGES if num_maps else ():
            head = nn.Conv2d(small.widths[stage], num_maps, 1)
            nn.init.zeros_(head.weight)
            self.dense.append(nn.Sequential(nn.BatchNorm2d(small.widths[stage]), head))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) -> logits (B, classes) and one map (B, maps, h, w) for each of DENSE_STAGES."""
        features = self.backbone.forward_features(x)
        logits = self.backbone.forward_head(features[-1])
        return logits, [head(features[stage]) for head, stage in zip(self.dense, DENSE_STAGES, strict=False)]


def dense_errors(found: list[Tensor], target: Tensor, variance: Tensor) -> Tensor:
    """Squared errors of the dense heads as shares of the targets' variance.

    Args:
        found: maps (B, C, h, w) of each head.
        target: (B, C, H, W); averaged over the cells of each head's grid.
        variance: (heads, C), of the averaged targets.

    Returns:
        (B, heads, C); 1 is what predicting the mean scores.
    """
    errors = [(F.adaptive_avg_pool2d(target, (out.shape[-2], out.shape[-1])) - out).square().mean((2, 3))
              for out in found]
    return torch.stack(errors, 1) / variance
