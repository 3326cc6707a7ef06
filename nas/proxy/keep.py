"""Weights of proxies on disk, in half precision: the averaged ones of a trial, without what only training needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from nas.runs.run import Run, Trial

FOLDER = "weights"
_BACKBONE = "module.backbone."


def write_weights(path: Path, state: Mapping[str, Tensor], facts: dict[str, str]) -> None:
    """Write `state` in half precision as safetensors; `facts` becomes its metadata."""
    from safetensors.torch import save

    write_atomic(path, save({name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
                             for name, value in state.items()}, facts))


def read_weights(path: Path) -> dict[str, Tensor]:
    """What `write_weights` wrote, its numbers as float32.

    Raises:
        FileNotFoundError, SafetensorError: there is none, or none that can be read.
    """
    from safetensors.torch import load_file

    # Copies of what the file's memory map holds: a file that is cut short later would end the process (SIGBUS).
    return {name: value.float() if value.is_floating_point() else value.clone()
            for name, value in load_file(path).items()}


def weights_path(run: Path, trial: int) -> Path:
    """Where a run keeps the proxy weights of a trial."""
    return run / FOLDER / f"{trial}.safetensors"


def full_weights_path(run: Path, trial: int) -> Path:
    """Where a run keeps the weights of a trial's configuration as trained at full width, in float32."""
    return run / FOLDER / f"{trial}-full.safetensors"


def keep_weights(checkpoint: Path, path: Path) -> None:
    """Write the averaged network of a proxy's checkpoint, without its dense heads, to `path`."""
    import torch

    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    path.parent.mkdir(exist_ok=True)
    write_weights(path, {key.removeprefix(_BACKBONE): value for key, value in saved["average"].items()
                         if key.startswith(_BACKBONE)}, {"form": "proxy", "step": str(saved["step"])})


def kept_weights(run: Run, record: Trial) -> dict[str, Tensor]:
    """The float32 weights of a trial's proxy, under our names.

    Raises:
        UsageError: the run kept none for this trial; says why.
    """
    path = weights_path(run.path, record.trial if record.reused_from is None else record.reused_from)
    if path.exists():
        return read_weights(path)
    why = ("its score came with the project and was not trained here" if record.score_origin == "shipped" else
           "it has no score" if record.score is None else "the run was made before weights were kept")
    raise UsageError(f"--weights proxy: the run {run.path} has no weights of trial {record.trial}: {why}")
