"""The formats of an export. Each is one module that follows the `Format` protocol, imported when it is used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from nas.errors import NotAvailable, UsageError
from nas.export.variant import Variant

Runner = Callable[[np.ndarray], np.ndarray]  # normalised images (B, 3, H, W) -> logits (B, classes), float32


@dataclass(frozen=True)
class Artefact:
    """One file (or package) of a format.

    `tolerance`: the largest relative difference to the train form's logits that counts as agreement.
    """

    file: str
    tolerance: float
    note: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Artefact:
        return cls(values["file"], values["tolerance"], values.get("note", ""))


class Format(Protocol):
    """Writes a variant in one format, and reads it back as a function from images to logits."""

    def missing(self) -> str | None:
        """What it needs that this machine lacks, in one sentence; None when it can be written."""
        ...

    def write(self, variant: Variant, folder: Path) -> list[Artefact]:
        """Write the variant's files into `folder`. The variant is left as it was."""
        ...

    def load(self, folder: Path, artefact: Artefact) -> Runner:
        """The file as a function.

        Raises:
            NotAvailable: this machine cannot run the format (after checking what can be checked without).
        """
        ...


# The name in --formats -> the module.
FORMATS = {
    "timm": "timm_folder",
    "onnx": "onnx_model",
    "onnx-int8": "onnx_int8",
    "coreml": "coreml",
    "openvino": "openvino_ir",
    "executorch": "executorch_pte",
    "litert": "litert_tflite",
    "tensorrt": "tensorrt_engine",
}


# The largest difference that any file of a format may have, whatever a folder says of itself. int8 and Core ML's
# shrunken weights are compared by accuracy; there the limit only catches a broken file.
MOST_TOLERANCE = {"timm": 1e-4, "onnx": 1e-4, "onnx-int8": 1.0, "coreml": 1.0, "openvino": 1e-4, "executorch": 1e-3,
                  "tensorrt": 1e-3}


def format_named(name: str) -> Format:
    """The module of a format.

    Raises:
        UsageError: no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"--formats {name}: expected some of {', '.join(FORMATS)}")
    return cast(Format, importlib.import_module(f"nas.export.{FORMATS[name]}"))


def lacks(package: str, install: str) -> str | None:
    """The sentence for a package that is not installed, or None."""
    return None if importlib.util.find_spec(package) else f"needs {package}, which is not installed: {install}"


def require(name: str) -> Format:
    """A format that can be written here.

    Raises:
        NotAvailable: something is missing.
    """
    found = format_named(name)
    if (why := found.missing()) is not None:
        raise NotAvailable(f"{name} {why}")
    return found
