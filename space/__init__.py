"""Which FastViT configurations exist."""

from space.space import Dimension, SearchSpace

__all__ = ["Dimension", "SearchSpace"]
