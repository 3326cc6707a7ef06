"""ONNX: the fused network in one file, with metadata that says what it is and how its input is prepared."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from nas.export.formats import Artefact, Runner, lacks
from nas.export.variant import Variant
from nas.onnx_runtime import onnxruntime

OPSET = 17


def missing() -> str | None:
    return lacks("onnx", "pip install onnx onnxruntime")


def metadata(variant: Variant) -> dict[str, str]:
    """Strings that travel inside the file."""
    found = {
        "name": variant.name, "config": variant.config.to_json(), "config_key": variant.config.key(),
        "weights": variant.weights, "input": "RGB in [0, 1], then (x - mean) / std",
        "mean": json.dumps(variant.mean), "std": json.dumps(variant.std), "output": "logits"}
    return found | ({"class_names": json.dumps(variant.class_names)} if variant.class_names else {})


def to_onnx(variant: Variant, *, dynamic_batch: bool) -> Any:
    """The fused network as an onnx.ModelProto; input "image" (B, 3, H, W), output "logits" (B, classes)."""
    import onnx
    import torch

    side = variant.resolution
    buffer = io.BytesIO()
    # The graph of the tracing exporter is smaller for these networks: one convolution node for each convolution.
    torch.onnx.export(variant.fused, (torch.zeros(2 if dynamic_batch else 1, 3, side, side),), buffer,  # type: ignore[arg-type]
                      dynamo=False, opset_version=OPSET, input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}} if dynamic_batch else None)
    model = onnx.load_model_from_string(buffer.getvalue())
    model.doc_string = f"{variant.name}: {variant.config.describe()}"
    onnx.helper.set_model_props(model, metadata(variant))
    onnx.checker.check_model(model)
    return model


def write(variant: Variant, folder: Path) -> list[Artefact]:
    import onnx

    path = folder / f"{variant.name}.onnx"
    onnx.save_model(to_onnx(variant, dynamic_batch=variant.options.dynamic_batch), path)
    batch = "any batch size" if variant.options.dynamic_batch else "batch 1"
    return [Artefact(path.name, 1e-4, f"fused, fp32, {batch}, opset {OPSET}")]


def load(folder: Path, artefact: Artefact) -> Runner:
    return runner(folder / artefact.file)


def runner(path: Path) -> Runner:
    """An ONNX file as a function, on the CPU."""
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    fixed = isinstance(given.shape[0], int)

    def run(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, len(images)) if fixed else [images]
        return np.concatenate([session.run(None, {given.name: part})[0] for part in parts])

    return run
