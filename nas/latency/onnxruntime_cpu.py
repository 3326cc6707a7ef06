"""ONNX Runtime on this CPU, one thread: blocks of the network interleaved with blocks of a reference network.

Wall time moves with whatever else the machine does; the ratio of process-CPU times to an interleaved
reference hardly does. The reference's own time is stored once for each machine, and latency is
ratio x stored reference time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.files import write_json
from nas.latency.measurement import Measurement
from nas.run import now

PROTOCOL = "interleaved-1"
BLOCK_S = 0.02  # one block of inferences: long against the timer, short against the machine's moods
ROUNDS, MAX_ROUNDS = 15, 120
HALF_WIDTH = 0.02
DEVICES = ("onnxruntime",)


def check_device(device: str) -> None:
    """Refuse a device that cannot be measured here, in one sentence."""
    if device not in DEVICES:
        raise UsageError(f"--device {device}: expected one of {', '.join(DEVICES)}")


def cache_folder() -> Path:
    """Where measurements of this machine are kept; FASTVIT_EXPLORER_CACHE names another place."""
    from platformdirs import user_cache_path

    folder = Path(os.environ.get("FASTVIT_EXPLORER_CACHE") or user_cache_path("fastvit-explorer"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _session(config: FastViTConfig, resolution: int) -> Any:
    import onnxruntime
    import torch

    from fastvit import FastViT, reparameterize

    torch.manual_seed(0)
    model = reparameterize(FastViT(config))
    buffer = io.BytesIO()
    torch.onnx.export(model, (torch.zeros(1, 3, resolution, resolution),), buffer, dynamo=False,  # type: ignore[arg-type]
                      input_names=["image"], output_names=["logits"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])


@cache
def _reference(resolution: int) -> Any:
    return _session(PRESETS["t8"], resolution)


class _Timed:
    """A session and how many of its inferences fill one block."""

    def __init__(self, session: Any, resolution: int) -> None:
        self.session = session
        self.feed = {"image": np.random.default_rng(0).standard_normal((1, 3, resolution, resolution), np.float32)}
        for _ in range(3):
            self.once()
        self.repeats = max(1, round(BLOCK_S / max(1e-5, min(self.once() for _ in range(3)))))

    def once(self) -> float:
        begun = time.process_time()
        self.session.run(None, self.feed)
        return time.process_time() - begun

    def block_ms(self) -> float:
        begun = time.process_time()
        for _ in range(self.repeats):
            self.session.run(None, self.feed)
        return 1e3 * (time.process_time() - begun) / self.repeats


def _interval(trial: list[float], reference: list[float]) -> tuple[float, float, float]:
    """Median ratio of paired blocks with its bootstrap 95 % interval."""
    from scipy.stats import bootstrap

    ratios = np.array(trial) / np.array(reference)
    found = bootstrap((ratios,), np.median, n_resamples=999, method="percentile", rng=np.random.default_rng(0))
    return float(np.median(ratios)), float(found.confidence_interval.low), float(found.confidence_interval.high)


def measure(config: FastViTConfig, device: str = "onnxruntime", *, resolution: int = 256,
            budget_ms: float | None = None, name: str = "", fresh: bool = False) -> Measurement:
    """Measure the fused network of `config`; a value measured before on this machine is reused unless `fresh`.

    Raises:
        UsageError: the device is unknown.
    """
    check_device(device)
    import onnxruntime

    place = {"key": config.key(), "resolution": resolution, "device": device, "batch": 1, "threads": 1,
             "precision": "fp32", "protocol": PROTOCOL, "runtime": onnxruntime.__version__,
             "machine": platform.processor() or platform.machine(), "system": platform.platform()}
    folder = cache_folder() / "latency"
    folder.mkdir(exist_ok=True)
    path = folder / (hashlib.sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()[:24] + ".json")
    if path.exists() and not fresh:
        return Measurement.from_dict(json.loads(path.read_text()))
    begun = time.perf_counter()
    session = _session(config, resolution)
    reference = _reference(resolution)
    trial_ms: list[float] = []
    reference_ms: list[float] = []
    rng = np.random.default_rng(0)
    with FileLock(cache_folder() / f"{device}.lock"):
        pair = (_Timed(session, resolution), _Timed(reference, resolution))
        while len(trial_ms) < MAX_ROUNDS:
            order = rng.permutation(2)
            block = {int(index): pair[index].block_ms() for index in order}
            trial_ms.append(block[0])
            reference_ms.append(block[1])
            if len(trial_ms) < ROUNDS or len(trial_ms) % 5:
                continue
            ratio, low, high = _interval(trial_ms, reference_ms)
            if (high - low) / 2 < HALF_WIDTH * ratio:
                break
        ratio, low, high = _interval(trial_ms, reference_ms)
        unit_path = folder / f"reference-{resolution}-{onnxruntime.__version__}.json"
        if not unit_path.exists():
            write_json(unit_path, {"reference": "t8", "latency_ms": float(np.median(reference_ms))})
        unit = float(json.loads(unit_path.read_text())["latency_ms"])
    found = Measurement(
        name=name or config.key(), config_key=config.key(), device=device, origin="measured", resolution=resolution,
        latency_ms=ratio * unit, ci_low_ms=low * unit, ci_high_ms=high * unit, protocol=PROTOCOL,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        flags=("capped",) if len(trial_ms) >= MAX_ROUNDS else (),
        samples={"trial_ms": trial_ms, "reference_ms": reference_ms}, measured_at=now(),
        seconds=time.perf_counter() - begun)
    write_json(path, found.to_dict())
    return found
