"""A FastViT's tensors out of a file, however a trainer wrapped and named them; read without running code.

Trainers put the weights under a name of their own beside optimizer, arguments and metrics, and wrappers put a prefix
before every key. Both are found by looking for the one tensor that every FastViT has first, under our name, timm's or
Apple's.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

# The first convolution: whose name it is, and the key.
_FIRST = {"stem.0.convs.0.conv.weight": "ours", "stem.0.conv_kxk.0.conv.weight": "timm",
          "patch_embed.0.rbr_conv.0.conv.weight": "Apple"}
_FUSED = ("stem.0.reparam_conv.weight", "patch_embed.0.reparam_conv.weight", "stem.1.0.weight")
# Averaged weights come first: they are what a trainer evaluates and what everybody wants.
_AVERAGED = {"ema", "swa", "average", "averaged", "avg"}
# Bookkeeping beside the weights, which nobody misses.
_COUNTERS = ("n_averaged", "num_updates", "step", "decay")


@dataclass(frozen=True)
class Found:
    """The tensors of one FastViT under the names of `by`, and what lay around them.

    `where`: the names and prefix that led there, such as "state_dict / module.". `left_out`: other tensors beside
    them, by their full names.
    """

    state: dict[str, Tensor]
    by: str
    where: str
    left_out: tuple[str, ...]


def read_checkpoint(path: Path) -> Found:
    """The FastViT in a safetensors file or a PyTorch checkpoint.

    Raises:
        UsageError: no file, not readable without running code, no FastViT inside, a fused one, or several.
    """
    import torch

    content = _loaded(path)
    places = [(names, tensors) for names, tensors in _dictionaries(content, ()) if tensors]
    found = [(names, prefix, by) for names, tensors in places for prefix, by in _prefixes(tensors)]
    if not found:
        raise UsageError(f"--weights {path}: {_why_none(places)}")
    names, prefix, by = _chosen(path, found)
    tensors = dict(places)[names]
    state = {key.removeprefix(prefix): value.float() if value.is_floating_point() else value
             for key, value in tensors.items() if key.startswith(prefix)}
    left = tuple(key for key, value in tensors.items()
                 if not key.startswith(prefix) and key.split(".")[-1] not in _COUNTERS)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    return Found(state, by, _words(names, prefix), left)


def _loaded(path: Path) -> Any:
    """What the file holds. Beside tensors only classes are made that cannot run code."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"--weights {path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise UsageError(f"--weights {path}: cannot be read as a PyTorch checkpoint of plain tensors"
                         f"{_unsafe(path) or f' ({_first(error)})'}") from None
    except Exception as error:  # damaged bytes let the readers raise anything, IndexError and struct.error among it
        raise UsageError(f"--weights {path}: cannot be read as safetensors or as a PyTorch checkpoint of plain "
                         f"tensors ({_first(error)})") from None


def _harmless() -> list[Any]:
    """Classes that trainers store beside tensors: making one of them only fills attributes."""
    import numpy as np

    kinds = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    return [argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath,
            collections.defaultdict, collections.Counter, np.dtype, np.ndarray,
            np._core.multiarray.scalar, np._core.multiarray._reconstruct, *kinds]  # type: ignore[attr-defined]


def _unsafe(path: Path) -> str:
    """The classes that a checkpoint wants to make, in words; empty where they cannot be told."""
    import torch

    try:
        with torch.serialization.safe_globals(_harmless()):
            kinds = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:
        return ""
    if not kinds:
        return ""
    return (f": it holds objects of {', '.join(kinds[:3])}{' and others' if len(kinds) > 3 else ''}, which could run "
            "code when they are loaded; save the state_dict alone, torch.save(model.state_dict(), FILE)")


def _first(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:150]


def _dictionaries(content: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary of tensors inside, with the names that lead to it."""
    import torch

    if not isinstance(content, Mapping) or len(names) > 4:
        return
    yield names, {key: value for key, value in content.items()
                  if isinstance(key, str) and isinstance(value, torch.Tensor)}
    for key, value in content.items():
        if isinstance(key, str):
            yield from _dictionaries(value, (*names, key))


def _prefixes(tensors: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(prefix, whose names) of every FastViT in one dictionary."""
    for key in tensors:
        for first, by in _FIRST.items():
            if key == first or key.endswith("." + first):
                yield key.removesuffix(first), by


def _averaged(names: tuple[str, ...], prefix: str) -> bool:
    return any(_AVERAGED & set(re.split(r"[^a-z]+", part.lower())) for part in (*names, prefix))


def _chosen(path: Path, found: list[tuple[tuple[str, ...], str, str]]) -> tuple[tuple[str, ...], str, str]:
    """The one meant: averaged weights if there are some, else the only one.

    Raises:
        UsageError: several networks, with where they lie.
    """
    for group in ([one for one in found if _averaged(one[0], one[1])], found):
        if len(group) == 1:
            return group[0]
        if group:
            where = ", ".join(repr(_words(names, prefix)) for names, prefix, _ in group)
            raise UsageError(f"--weights {path}: holds {len(group)} FastViTs, under {where}; save the one that is "
                             "meant alone, torch.save(model.state_dict(), FILE)")
    raise AssertionError("no network to choose from")


def _words(names: tuple[str, ...], prefix: str) -> str:
    return " / ".join((*names, prefix) if prefix else names)


def _why_none(places: list[tuple[tuple[str, ...], dict[str, Tensor]]]) -> str:
    """Why no FastViT was found, naming the prefix that the tensors carry."""
    if not places:
        return "holds no dictionary of tensors by name"
    for _, tensors in places:
        for key in tensors:
            if any(key == fused or key.endswith("." + fused) for fused in _FUSED):
                return f"is a fused network ({key}), which no train form can take; give the unfused weights"
    names, tensors = max(places, key=lambda place: len(place[1]))
    first = next(iter(tensors))
    heads = {key.split(".")[0] for key in tensors}
    prefix = f" with the prefix {first.split('.')[0] + '.'!r}" if len(heads) == 1 and "." in first else ""
    inside = f" under {_words(names, '')!r}" if names else ""
    return (f"holds {len(tensors)} tensors{inside}{prefix}, none of which is the first convolution of a FastViT by our "
            f"names, timm's or Apple's ({first}, ...)")
