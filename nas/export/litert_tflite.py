"""LiteRT: the fused network as NAME.tflite for Android, input (1, H, W, 3) in float32."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from nas.export.formats import Artefact, Runner, lacks
from nas.export.variant import Variant
from nas.latency.litert import INSTALL, interpreter, to_tflite


def missing() -> str | None:
    return lacks("litert_torch", INSTALL)


def write(variant: Variant, folder: Path) -> list[Artefact]:
    side = variant.resolution
    path = folder / f"{variant.name}.tflite"
    path.write_bytes(to_tflite(copy.deepcopy(variant.fused), (1, 3, side, side)))
    return [Artefact(path.name, 1e-3, "fused, fp32, batch 1, channels last")]


def load(folder: Path, artefact: Artefact) -> Runner:
    run = interpreter(folder / artefact.file)
    given, result = run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]

    def answer(images: np.ndarray) -> np.ndarray:
        logits = []
        for image in images.transpose(0, 2, 3, 1):
            run.set_tensor(given, np.ascontiguousarray(image[None]))
            run.invoke()
            logits.append(run.get_tensor(result))
        return np.concatenate(logits)

    return answer
