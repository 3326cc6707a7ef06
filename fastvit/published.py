"""What others published about FastViT and its peers: one reader of published.csv. Needs neither torch nor pandas."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# timm's name of a peer -> its name in published.csv. Chosen for their year and family, not for their figures.
PEERS = {
    "mobilenetv3_large_100": "MobileNetV3-Large 1.0x", "mobilenetv4_conv_small": "MobileNetV4-Conv-S",
    "mobilenetv4_conv_medium": "MobileNetV4-Conv-M", "mobilenetv4_hybrid_medium": "MobileNetV4-Hybrid-M",
    "efficientnet_b0": "EfficientNet-B0", "repvit_m0_9": "RepViT-M0.9", "repvit_m1_0": "RepViT-M1.0",
    "repvit_m1_5": "RepViT-M1.5", "levit_128": "LeViT-128", "levit_256": "LeViT-256",
    "convnextv2_atto": "ConvNeXt V2-A", "convnext_tiny": "ConvNeXt-T", "mobilevit_s": "MobileViT-S",
    "mobilevitv2_100": "MobileViTv2-1.0", "edgenext_small": "EdgeNeXt-S", "caformer_s18": "CAFormer-S18",
    "poolformer_s12": "PoolFormer-S12", "efficientformerv2_s1": "EfficientFormerV2-S1", "mobileone_s1": "MobileOne-S1",
    "starnet_s4": "StarNet-S4", "fasternet_t2": "FasterNet-T2", "resnet50": "ResNet-50", "regnety_016": "RegNetY-1.6GF",
    "tiny_vit_5m_224": "TinyViT-5M", "efficientvit_b1": "EfficientViT-B1-r224"}


@dataclass(frozen=True)
class Published:
    """One published network on one device. None: the source does not say.

    `params_m` in millions, `gmacs` of one image at `resolution` pixels a side, `top1` on ImageNet-1k in percent (with a
    teacher where `distilled`), `latency_ms` of a batch of `batch` images.
    """

    model: str
    params_m: float | None
    gmacs: float | None
    resolution: int | None
    top1: float | None
    distilled: bool
    latency_ms: float | None
    device: str
    runtime: str
    batch: int
    source: str
    note: str


@cache
def published() -> tuple[Published, ...]:
    """Every row of published.csv, in its order."""
    def number(text: str) -> float | None:
        return float(text) if text else None

    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Published(
            model=row["model"], params_m=number(row["params_m"]), gmacs=number(row["gmacs"]),
            resolution=int(row["resolution"]) if row["resolution"] else None, top1=number(row["top1"]),
            distilled=row["distilled"] == "True", latency_ms=number(row["latency_ms"]), device=row["device"],
            runtime=row["runtime"], batch=int(row["batch"]) if row["batch"] else 1, source=row["source"],
            note=row["note"]) for row in csv.DictReader(file))
