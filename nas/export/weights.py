"""Weights from a file into a configuration's train form, whoever named the keys: we, timm or Apple."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fastvit.config import FastViTConfig
from nas.errors import UsageError
from nas.export.checkpoints import Found, read_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from fastvit.model import FastViT


def ours(found: Found, config: FastViTConfig) -> dict[str, Tensor]:
    """The tensors under our names.

    Raises:
        ValueError: they do not fit the configuration, or are fused.
    """
    from fastvit.timm import from_apple, from_timm

    if found.by == "ours":
        return found.state
    return (from_timm if found.by == "timm" else from_apple)(found.state, config)


def load_weights(path: Path, config: FastViTConfig, num_classes: int | None = None) -> tuple[FastViT, str]:
    """The train form of `config` with the weights of a file, and whose names they had.

    Args:
        path: safetensors, or a PyTorch checkpoint.
        config: must be the architecture that the weights were trained for.
        num_classes: None keeps the file's classifier; another number than the file's starts a new one.

    Raises:
        UsageError: the file cannot be read, or does not fit the configuration.
    """
    import torch

    from fastvit.model import FastViT

    found = read_checkpoint(path)
    if found.left_out:
        print(f"--weights {path}: took {len(found.state)} tensors under {found.where!r} and left out "
              f"{len(found.left_out)} others ({', '.join(found.left_out[:3])}"
              f"{', ...' if len(found.left_out) > 3 else ''})", file=sys.stderr)
    try:
        state = ours(found, config)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"--weights {path}: {str(error).splitlines()[0]}") from None
    classes = state["head.weight"].shape[0] if "head.weight" in state else 0
    torch.manual_seed(0)
    model = FastViT(config, classes if num_classes is None else num_classes)
    if num_classes is not None and num_classes != classes:
        state = {key: value for key, value in state.items() if not key.startswith("head.")} | {
            key: value for key, value in model.state_dict().items() if key.startswith("head.")}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][1:2]
        raise UsageError(f"--weights {path}: does not fit the configuration {config.describe()}: "
                         f"{' '.join(reason)[:200]}") from None
    return model, found.by


def random_model(config: FastViTConfig, num_classes: int, seed: int = 0) -> FastViT:
    """The train form of `config` as it is initialised from a seed, its BatchNorm statistics those of noise images.

    With the statistics of a fresh BatchNorm the signal dies on the way: logits of 1e-9, which half
    precision rounds to zero and in which no comparison would find a mistake.
    """
    import torch

    from fastvit.model import FastViT

    torch.manual_seed(seed)
    model = FastViT(config, num_classes)
    calibrate(model, [torch.randn(4, 3, 128, 128)])
    return model


def calibrate(model: FastViT, batches: Iterable[Tensor]) -> None:
    """Replace all BatchNorm statistics by those of `batches` (B, 3, H, W), each seen once; weights stay.

    Left in eval mode.
    """
    import torch
    from torch import nn

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    model.train()
    with torch.no_grad():
        for images in batches:
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
