"""FastViT: the architecture, its structural reparameterization, and nothing about searching.

FastViT and reparameterize load torch when they are first used; the rest needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig
from fastvit.presets import ABLATIONS, PRESETS, SUCCESSORS

if TYPE_CHECKING:
    from fastvit.fuse import reparameterize
    from fastvit.model import FastViT

__all__ = ["ABLATIONS", "PRESETS", "SUCCESSORS", "FastViT", "FastViTConfig", "reparameterize"]


def __getattr__(name: str) -> Any:
    if name == "FastViT":
        from fastvit.model import FastViT
        return FastViT
    if name == "reparameterize":
        from fastvit.fuse import reparameterize
        return reparameterize
    raise AttributeError(f"module 'fastvit' has no attribute {name!r}")
