"""A trained network that another one learns from: its label (hard distillation; Touvron et al., DeiT, ICML 2021), its
soft output (Hinton et al., 2015), and the features of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastvit.model import FastViT
from nas.errors import Failure, UsageError

TIMM = "timm:"
STAGES = 4
TEMPERATURE = 2.0  # of soft outputs: at 1 a sure teacher says little more than its label


class Teacher(nn.Module):
    """Images as the student sees them (B, 3, H, W) -> the teacher's logits (B, classes) and, when asked, its maps of
    the stages, finest first."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], student_mean: Sequence[float],
                 student_std: Sequence[float], side: int | None = None) -> None:
        super().__init__()
        self.model, self.side = model.eval().requires_grad_(False), side
        gain = torch.tensor(student_std) / torch.tensor(std)
        shift = (torch.tensor(student_mean) - torch.tensor(mean)) / torch.tensor(std)
        self.register_buffer("gain", gain.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor, maps: bool = False) -> tuple[Tensor, list[Tensor]]:
        x = images * self.gain + self.shift  # type: ignore[operator]
        if self.side is not None and x.shape[-1] != self.side:
            x = nn.functional.interpolate(x, (self.side, self.side), mode="bicubic", antialias=True)
        if not maps:
            return self.model(x), []
        if isinstance(self.model, FastViT):
            found = self.model.forward_features(x)
            return self.model.forward_head(found[-1]), found
        last, found = self.model.forward_intermediates(x, indices=STAGES)  # type: ignore[operator]
        return self.model.forward_head(last), found  # type: ignore[operator]

    def map_widths(self, resolution: int) -> list[int]:
        """Channels of the maps of the stages.

        Raises:
            UsageError: the network does not give any.
        """
        if isinstance(self.model, FastViT):
            return list(self.model.config.widths)
        try:
            side = self.side or resolution
            _, found = self(torch.zeros(1, 3, side, side, device=self.gain.device), maps=True)  # type: ignore[arg-type]
        except (AttributeError, TypeError, AssertionError, IndexError, ValueError):
            found = []
        if len(found) != STAGES or any(one.dim() != 4 for one in found):
            raise UsageError(f"--distill features: the teacher gives no {STAGES} maps of stages; use --distill soft")
        return [one.shape[1] for one in found]


class Student(nn.Module):
    """A FastViT that also says what the maps of its stages are in the teacher's channels."""

    def __init__(self, net: FastViT, widths: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.links = nn.ModuleList(nn.Conv2d(own, theirs, 1) for own, theirs in zip(
            net.config.widths, widths, strict=True))

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) -> logits (B, classes), maps (B, the teacher's channels, h, w)."""
        maps = self.net.forward_features(images)
        return self.net.forward_head(maps[-1]), [link(one) for link, one in zip(self.links, maps, strict=True)]


def soft_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Divergence of the student's softened output from the teacher's, on the scale of a cross-entropy."""
    student, teacher = (one.float() / TEMPERATURE for one in (logits, taught))
    return TEMPERATURE**2 * nn.functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")


def feature_loss(maps: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """One minus the cosine between the student's and the teacher's features, over places and stages: 0 to 2.

    The teacher's maps are averaged over the cells of the student's grids.
    """
    return torch.stack([
        1 - nn.functional.cosine_similarity(
            own.float(), nn.functional.adaptive_avg_pool2d(theirs.float(), own.shape[-2:]), dim=1).mean()  # type: ignore[arg-type]
        for own, theirs in zip(maps, taught, strict=True)]).mean()


def load_teacher(spec: str, num_classes: int, mean: Sequence[float], std: Sequence[float]) -> Teacher:
    """"timm:NAME" with its published weights, or the folder of a variant.

    Args:
        mean, std: how the student's images are normalised.

    Raises:
        UsageError: no such network, or it knows another number of classes.
        Failure: its weights cannot be fetched.
    """
    side = None
    if spec.startswith(TIMM):
        import timm

        name = spec.removeprefix(TIMM)
        if not timm.is_model(name):
            raise UsageError(f"--teacher {spec}: timm has no model of that name")
        try:
            model: Any = timm.create_model(name, pretrained=True)
        except Exception as error:
            raise Failure(f"--teacher {spec}: its weights cannot be loaded "
                          f"({(str(error) or type(error).__name__).splitlines()[0][:150]})") from None
        known = model.pretrained_cfg
        own_mean, own_std, classes = known["mean"], known["std"], model.num_classes
        side = known["input_size"][-1] if known.get("fixed_input_size") else None
    else:
        from fastvit.fuse import reparameterize
        from nas.export import load
        from nas.export.variant import MEAN, STD, read_sheet

        sheet = read_sheet(Path(spec))
        model = reparameterize(load(spec))
        own_mean, own_std, classes = sheet.get("mean", MEAN), sheet.get("std", STD), sheet["num_classes"]
    if classes != num_classes:
        raise UsageError(f"--teacher {spec}: it knows {classes} classes, the data has {num_classes}")
    return Teacher(model, own_mean, own_std, mean, std, side)
