"""The averaged weights of a trial's proxy, kept in the run: small, half precision, without what only training needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from nas.run import Run, TrialRecord

FOLDER = "weights"
_BACKBONE = "module.backbone."


def weights_path(run: Path, trial: int) -> Path:
    """Where a run keeps the proxy weights of a trial."""
    return run / FOLDER / f"{trial}.safetensors"


def keep_weights(checkpoint: Path, path: Path) -> None:
    """Write the averaged network of a proxy's checkpoint, without its dense heads, to `path`."""
    import torch
    from safetensors.torch import save

    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = {key.removeprefix(_BACKBONE): value.half() if value.is_floating_point() else value
             for key, value in saved["average"].items() if key.startswith(_BACKBONE)}
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, save({key: value.contiguous() for key, value in state.items()},
                            {"form": "proxy", "step": str(saved["step"])}))


def kept_weights(run: Run, record: TrialRecord) -> dict[str, Tensor]:
    """The float32 weights of a trial's proxy, under our names.

    Raises:
        UsageError: the run kept none for this trial; says why.
    """
    from safetensors.torch import load_file

    path = weights_path(run.path, record.trial if record.reused_from is None else record.reused_from)
    if path.exists():
        return {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
    why = ("its score came with the project and was not trained here" if record.score_origin == "shipped" else
           "it has no score" if record.score is None else "the run was made before weights were kept")
    raise UsageError(f"--weights proxy: the run {run.path} has no weights of trial {record.trial}: {why}")
