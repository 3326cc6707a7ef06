"""reparameterize(model): the deployed form of whatever holds a FastViT, ours or timm's."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from fastvit import timm_fuse
from fastvit.blocks import FOLDED, Foldable

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def reparameterize(model: M) -> M:
    """The deployed form of `model`: every FastViT block inside it folded, in eval mode.

    Returns a new module; the original keeps its form and its mode. A model in train mode is folded in its eval form.
    Folds our FastViT, timm's (MobileCLIP's MCi too) and any module that contains one (a detector, a segmenter,
    timm's features_only wrappers). A model that is already folded is only copied.

    One rule for requires_grad: all parameters of the result can be trained, whatever was frozen in the original, so
    that a deployed network can be fine-tuned whole.

    Raises:
        ValueError: nothing inside is a block of FastViT, so there is nothing to fold.
    """
    deployed = copy.deepcopy(model).eval()
    folded, count = _folded(deployed)
    if not count:
        raise ValueError(f"{type(model).__name__} holds no block of a FastViT, ours or timm's, so there is nothing to "
                         "fold; for other networks of timm there is timm.utils.reparameterize_model")
    return folded.requires_grad_(True)  # type: ignore[return-value]


def _folded(module: nn.Module) -> tuple[nn.Module, int]:
    """`module` with its blocks folded, and how many blocks are folded now, those that were before included."""
    if isinstance(module, Foldable):
        return module.fuse().eval(), 1
    if isinstance(module, FOLDED):
        return module, 1
    if timm_fuse.is_block(module):
        return timm_fuse.fold(module).eval(), 1
    total = 0
    for name, child in module.named_children():
        other, count = _folded(child)
        if other is not child:
            setattr(module, name, other)
        total += count
    return module, total
