"""What the benchmarks of networks share: sessions of any module, timed side by side by the latency protocol."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from nas.latency.protocols import interleave, precise
from nas.latency.runtime import Calls, Session


def eager(model: torch.nn.Module, image: torch.Tensor) -> Calls:
    """PyTorch eager in inference mode, one thread."""
    torch.set_num_threads(1)

    def run() -> None:
        with torch.inference_mode():
            model(image)

    return Calls(run, "cpu")


def onnxruntime(model: torch.nn.Module, image: torch.Tensor) -> Calls:
    """ONNX Runtime on the CPU, one thread, from torch's own exporter, so that all forms take the same way."""
    import onnxruntime as ort

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (image,), buffer, dynamo=False,  # type: ignore[arg-type]
                          input_names=["image"], opset_version=17)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {"image": image.numpy()}
    return Calls(lambda: session.run(None, feed), "cpu")


def training_step(model: torch.nn.Module, batch: Callable[[], tuple[torch.Tensor, torch.Tensor]], *,
                  lr: float = 1e-3) -> Callable[[], None]:
    """One step of the first loop that comes to mind: AdamW as it comes and cross-entropy on the images (B, 3, H, W) and
    labels (B,) of the next `batch`."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=lr)

    def step() -> None:
        images, labels = batch()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def side_by_side(trials: Sequence[Session], reference: Session, *, cap_s: float = 4.0, seed: int = 0,
                 ) -> tuple[float, list[tuple[float, float, float]]]:
    """Median ms of the reference, and each trial's ratio to it with its 95 % interval; one interleaved session."""
    found = interleave(trials, reference, enough=precise("cpu", 0.01), rng=np.random.default_rng(seed), cap_s=cap_s)
    return float(np.median(found.reference_ms)), [found.ratio(index, "cpu") for index in range(len(trials))]


def shown(ratio: tuple[float, float, float]) -> str:
    return f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]"
