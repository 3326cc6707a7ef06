"""ExecuTorch with its XNNPACK backend: what runs on phones' CPUs, run on this one.

Not yet run beside the other runtimes, for ExecuTorch pins a torch of its own; the contract test runs it where it is
installed.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.onnxruntime import image_batch
from nas.latency.runtime import Calls, Setting


class ExecuTorch:
    name = "executorch"
    lock = "cpu"
    precisions: tuple[str, ...] = ("fp32",)
    threads = False  # its thread pool takes what it finds, so that only the wall clock sees all of the work
    limit_s = 120.0

    def missing(self) -> str | None:
        return None if find_spec("executorch") else (
            "needs the package executorch, which pins its own torch: pip install it in an environment of its own")

    def version(self) -> str:
        return f"executorch {version('executorch')}"

    def prepare(self, network: Network, setting: Setting) -> Calls:
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        image = torch.from_numpy(image_batch(setting))
        try:
            with torch.no_grad():
                program = torch.export.export(network.module(setting.resolution), (image,))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:
            raise Failure(f"executorch cannot convert {network.name}: {error}") from error
        folder = tempfile.TemporaryDirectory()
        path = Path(folder.name) / "network.pte"
        path.write_bytes(lowered.buffer)
        method = Runtime.get().load_program(path).load_method("forward")

        def run(kept: object = folder) -> None:  # the file is mapped as long as it runs
            method.execute([image])

        return Calls(run, "wall")
