"""ExecuTorch: the fused network as NAME.pte for the XNNPACK backend (phones and other small CPUs)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.export.formats import Artefact, Runner, lacks
from nas.export.variant import Variant


def missing() -> str | None:
    return lacks("executorch", "pip install executorch, which pins its own torch: give it an own environment")


def write(variant: Variant, folder: Path) -> list[Artefact]:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    side = variant.resolution
    with torch.no_grad():
        program = torch.export.export(variant.fused, (torch.zeros(1, 3, side, side),))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path = folder / f"{variant.name}.pte"
    path.write_bytes(lowered.buffer)
    return [Artefact(path.name, 1e-3, "fused, fp32, XNNPACK, batch 1")]


def load(folder: Path, artefact: Artefact) -> Runner:
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(folder / artefact.file).load_method("forward")

    def run(images: np.ndarray) -> np.ndarray:
        return np.concatenate([method.execute([torch.from_numpy(image[None])])[0].numpy() for image in images])

    return run
