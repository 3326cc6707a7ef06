"""OpenVINO IR: the fused network as NAME.xml + NAME.bin in float32."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from nas.export.formats import Artefact, Runner, lacks
from nas.export.onnx_model import to_onnx
from nas.export.variant import Variant


def missing() -> str | None:
    return lacks("openvino", "pip install openvino")


def write(variant: Variant, folder: Path) -> list[Artefact]:
    import onnx
    import openvino

    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / "model.onnx"
        onnx.save_model(to_onnx(variant, dynamic_batch=variant.options.dynamic_batch), path)
        model = openvino.convert_model(path)
        model.set_rt_info(variant.config.key(), ["fastvit", "config_key"])
        model.set_rt_info(variant.weights, ["fastvit", "weights"])
        openvino.save_model(model, folder / f"{variant.name}.xml", compress_to_fp16=False)
    return [Artefact(f"{variant.name}.xml", 1e-4, f"fused, fp32, weights in {variant.name}.bin")]


def load(folder: Path, artefact: Artefact) -> Runner:
    import openvino

    core = openvino.Core()
    # Some processors would silently run in bfloat16.
    compiled = core.compile_model(folder / artefact.file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    fixed = compiled.input(0).partial_shape[0].is_static

    def run(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, len(images)) if fixed else [images]
        return np.concatenate([compiled(part)[0] for part in parts])

    return run
