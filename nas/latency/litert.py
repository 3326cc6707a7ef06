"""LiteRT (formerly TensorFlow Lite) on the CPU, with XNNPACK: what an Android app runs, here on this machine."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.onnxruntime import image_batch
from nas.latency.runtime import Calls, Setting, cpu_clock

if TYPE_CHECKING:
    from torch import nn

INSTALL = "pip install litert-torch"


def to_tflite(model: nn.Module, shape: tuple[int, int, int, int]) -> bytes:
    """A module in eval mode as a .tflite file; its input is channels-last, (B, H, W, C), as Android's images are.

    Args:
        shape: (B, C, H, W) of the input.
    """
    import litert_torch
    import torch

    batch, channels, height, width = shape
    model.requires_grad_(False)  # the converter wants constants
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        last = litert_torch.to_channel_last_io(model, args=[0])
        converted: Any = litert_torch.convert(last.eval(), (torch.zeros(batch, height, width, channels),))
        with tempfile.TemporaryDirectory() as aside:
            path = Path(aside) / "model.tflite"
            converted.export(str(path))
            return path.read_bytes()


def interpreter(content: bytes | Path, threads: int = 1) -> Any:
    """The LiteRT interpreter of a .tflite file, ready to run."""
    from ai_edge_litert.interpreter import Interpreter

    given = {"model_path": str(content)} if isinstance(content, Path) else {"model_content": content}
    found = Interpreter(num_threads=threads, **given)
    found.allocate_tensors()
    return found


class LiteRt:
    name = "litert"
    lock = "cpu"
    precisions: tuple[str, ...] = ("fp32",)
    threads = True
    limit_s = 180.0

    def missing(self) -> str | None:
        return None if find_spec("litert_torch") else f"needs the package litert-torch: {INSTALL}"

    def version(self) -> str:
        return f"litert {version('ai-edge-litert')}, litert-torch {version('litert-torch')}"

    def prepare(self, network: Network, setting: Setting) -> Calls:
        side = setting.resolution
        try:
            content = to_tflite(network.module(side), (setting.batch, 3, side, side))
            run = interpreter(content, setting.threads)
        except Exception as error:
            raise Failure(f"litert cannot convert {network.name}: {error}") from error
        image = image_batch(setting).transpose(0, 2, 3, 1).copy()
        run.set_tensor(run.get_input_details()[0]["index"], image)
        return Calls(run.invoke, cpu_clock(setting))
