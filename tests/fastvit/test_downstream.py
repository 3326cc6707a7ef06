"""A variant as the backbone of something larger: maps, features_only, a trained head, fusion inside it."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvit import PRESETS, FastViT, FastViTConfig, reparameterize
from fastvit.blocks import MobileOne, RepMixer
from fastvit.timm import register
from nas.data import load_task
from tests.fastvit.test_fusion import narrow, randomise

# Kernels that stock timm cannot express, and attention with its positional encoding.
CONFIG = narrow(PRESETS["sa12"]).replace(depths=(1, 1, 1, 1), ffn_kernels=(7, 5, 3, 7), layer_scale_init=0.1)


class Segmenter(nn.Module):
    """The smallest feature pyramid: each map to 16 channels, summed at the finest stride, one 1x1 convolution."""

    def __init__(self, backbone: nn.Module, widths: list[int], classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(nn.Conv2d(width, 16, 1) for width in widths)
        self.out = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, classes, 1))

    def maps(self, x: Tensor) -> list[Tensor]:
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        maps = [lateral(found) for lateral, found in zip(self.lateral, self.maps(x), strict=True)]
        size = maps[0].shape[-2:]
        return self.out(torch.stack([F.interpolate(one, size, mode="bilinear") for one in maps]).sum(0))


class OurSegmenter(Segmenter):
    def maps(self, x: Tensor) -> list[Tensor]:
        return self.backbone.forward_features(x)  # type: ignore[operator]


def registered(config: FastViTConfig) -> nn.Module:
    register("fastvit_downstream_test", config)
    return timm.create_model("fastvit_downstream_test", features_only=True)


@pytest.mark.parametrize("size", [(64, 64), (72, 104)])
def test_maps_of_registered_variants(size: tuple[int, int]) -> None:
    model = registered(CONFIG).eval()
    assert model.feature_info.channels() == list(CONFIG.widths)
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    x = torch.randn(2, 3, *size)
    ours = FastViT(CONFIG, 10).eval()
    ours.load_state_dict({k: v for k, v in model.model.state_dict().items() if not k.startswith(("head", "expand"))},
                         strict=False)
    with torch.no_grad():
        maps, own = model(x), ours.forward_features(x)
    for found, expected, width, stride in zip(maps, own, CONFIG.widths, CONFIG.strides, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
        assert found.shape == (2, width, -(-size[0] // stride), -(-size[1] // stride))
    some = timm.create_model("fastvit_downstream_test", features_only=True, out_indices=(1, 3))
    assert [m.shape[1] for m in some(x)] == [CONFIG.widths[1], CONFIG.widths[3]]
    early = timm.create_model("fastvit_downstream_test", features_only=True, out_indices=(0, 1))
    assert len(early(x)) == 2


def _batch() -> tuple[Tensor, Tensor]:
    """Scenes of the built-in task with the shape at each pixel: 0 for none, 1 to 4."""
    batch = load_task("builtin", resolution=64).train.batch(np.arange(16), 64)
    assert batch.maps is not None
    shapes = torch.from_numpy(batch.maps[:, :4]).float()
    found, which = F.adaptive_avg_pool2d(shapes, 16).max(1)
    target = torch.where(found > 63, which + 1, torch.zeros_like(which))
    # Contiguous: in torch 2.15 the backward of a strided 1x1 convolution over channels-last images corrupts the heap.
    return torch.from_numpy(batch.images).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1, target


@pytest.mark.parametrize("kind", ["ours", "timm"])
def test_a_segmentation_head_learns_and_fuses(kind: str) -> None:
    torch.manual_seed(0)
    widths = list(CONFIG.widths)
    net = OurSegmenter(FastViT(CONFIG, 0), widths, 5) if kind == "ours" else Segmenter(registered(CONFIG), widths, 5)
    images, target = _batch()
    assert target.unique().numel() > 2
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    # The backbone learned too, not the head alone.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in net.named_parameters()
               if ".stages." in n and n.endswith("gamma"))
    randomise(net).eval()
    fused = reparameterize(net)
    assert any(isinstance(m, RepMixer) for m in net.modules())
    assert not any(isinstance(m, (RepMixer, MobileOne)) for m in fused.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) == 1  # the head's own
    with torch.no_grad():
        expected = net(images)
        assert (fused(images) - expected).norm() / expected.norm() < 1e-5
