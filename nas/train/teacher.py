"""A trained network whose labels another one learns: hard distillation (Touvron et al., DeiT, ICML 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import Failure, UsageError

TIMM = "timm:"


class Teacher(nn.Module):
    """Images as the student sees them (B, 3, H, W) -> the teacher's labels (B,)."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], student_mean: Sequence[float],
                 student_std: Sequence[float], side: int | None = None) -> None:
        super().__init__()
        self.model, self.side = model.eval().requires_grad_(False), side
        gain = torch.tensor(student_std) / torch.tensor(std)
        shift = (torch.tensor(student_mean) - torch.tensor(mean)) / torch.tensor(std)
        self.register_buffer("gain", gain.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        x = images * self.gain + self.shift  # type: ignore[operator]
        if self.side is not None and x.shape[-1] != self.side:
            x = nn.functional.interpolate(x, (self.side, self.side), mode="bicubic", antialias=True)
        return self.model(x).argmax(1)  # type: ignore[no-any-return]


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
