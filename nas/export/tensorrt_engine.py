"""TensorRT: the fused network as NAME.engine, good for this GPU and this TensorRT version only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import Failure, NotAvailable
from nas.export.formats import Artefact, Runner, lacks
from nas.export.onnx_model import to_onnx
from nas.export.variant import Variant


def missing() -> str | None:
    why = lacks("tensorrt", "pip install tensorrt on a machine with an NVIDIA GPU")
    if why is None:
        import torch

        if not torch.cuda.is_available():
            return "needs an NVIDIA GPU, and there is none here: export on the machine that will run the engine"
    return why


def _logger() -> Any:
    import tensorrt

    return tensorrt.Logger(tensorrt.Logger.ERROR)


def write(variant: Variant, folder: Path) -> list[Artefact]:
    import tensorrt

    logger = _logger()
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(to_onnx(variant, dynamic_batch=False).SerializeToString()):
        raise Failure(f"TensorRT cannot read the network: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise Failure("TensorRT built no engine")
    path = folder / f"{variant.name}.engine"
    path.write_bytes(bytes(engine))
    return [Artefact(path.name, 1e-3, f"fused, fp32, batch 1, TensorRT {tensorrt.__version__}, this GPU only")]


def load(folder: Path, artefact: Artefact) -> Runner:
    if (why := missing()) is not None:
        raise NotAvailable(why)
    import tensorrt
    import torch

    engine = tensorrt.Runtime(_logger()).deserialize_cuda_engine((folder / artefact.file).read_bytes())
    if engine is None:
        raise NotAvailable("the engine was built for another GPU or TensorRT version; build it here")
    context = engine.create_execution_context()
    classes = engine.get_tensor_shape("logits")[1]

    def one(image: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(image[None]).cuda().contiguous()
        found = torch.empty(1, classes, device="cuda")
        context.set_tensor_address("image", given.data_ptr())
        context.set_tensor_address("logits", found.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return found.cpu().numpy()

    return lambda images: np.concatenate([one(image) for image in images])
