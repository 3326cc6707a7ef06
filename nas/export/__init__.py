"""From a configuration to a folder that other tools load: export(), verify() and load()."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.export.folder import Exported, export, verify
from nas.export.variant import Options, Variant, find, read_sheet

if TYPE_CHECKING:
    from fastvit.model import FastViT

__all__ = ["Exported", "Options", "Variant", "export", "find", "load", "read_sheet", "verify"]


def load(folder: str | Path) -> FastViT:
    """The train form of an exported variant, in eval mode, with its weights.

    Raises:
        UsageError: the folder is none, or its weights do not fit.
    """
    from fastvit.config import FastViTConfig
    from nas.export.weights import load_weights

    sheet = read_sheet(Path(folder))
    model, _ = load_weights(Path(folder) / "model.safetensors", FastViTConfig.from_dict(sheet["config"]))
    return model.eval()
