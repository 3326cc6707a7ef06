"""PyTorch eager: on the CPU, on CUDA with events around a captured graph, on Apple's GPU (mps)."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nas.errors import Failure
from nas.latency.network import Network
from nas.latency.onnxruntime import image_batch
from nas.latency.runtime import Calls, Session, Setting, cpu_clock

if TYPE_CHECKING:
    import torch


class Torch:
    """`device` is cpu, cuda or mps."""

    limit_s = 60.0

    def __init__(self, device: str) -> None:
        self.device = device
        self.name = f"torch:{device}"
        self.lock = device
        self.threads = device == "cpu"
        self.precisions: tuple[str, ...] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16"),
                                            "mps": ("fp32", "fp16")}[device]

    def missing(self) -> str | None:
        if not find_spec("torch"):
            return "needs the package torch: pip install torch"
        if self.device == "cpu":
            return None
        import torch

        if self.device == "cuda":
            return None if torch.cuda.is_available() else "needs an NVIDIA GPU and a build of torch with CUDA"
        return None if torch.backends.mps.is_available() else "needs a Mac with Apple silicon"

    def version(self) -> str:
        name = f"torch {version('torch')}"
        if self.device != "cuda":
            return name
        import torch

        return f"{name} {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name

    def prepare(self, network: Network, setting: Setting) -> Session:
        import torch

        kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[setting.precision]
        # Depthwise convolutions are far faster channels-last on a GPU's tensor cores, slower on a CPU in fp32.
        layout = torch.channels_last if self.device == "cuda" else torch.contiguous_format
        model = network.module(setting.resolution).to(self.device, kind, memory_format=layout)  # type: ignore[call-overload]
        image = torch.from_numpy(image_batch(setting)).to(self.device, kind, memory_format=layout)
        if self.device == "cpu":
            torch.set_num_threads(setting.threads)
        with torch.inference_mode():
            try:
                model(image)
            except Exception as error:
                raise Failure(f"{self.name} cannot run {network.name}: {error}") from error
            if self.device == "cuda":
                return _CudaGraph(model, image)

        def run() -> Any:
            with torch.inference_mode():
                model(image)
            if self.device == "mps":
                torch.mps.synchronize()

        return Calls(run, cpu_clock(setting) if self.device == "cpu" else "wall")


class _CudaGraph:
    """Replays a captured graph between two events: the GPU's own time, without the launches of Python."""

    clock = "wall"

    def __init__(self, model: torch.nn.Module, image: torch.Tensor) -> None:
        import torch

        torch.backends.cudnn.benchmark = True
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # capture needs a few runs on a side stream before
            for _ in range(3):
                model(image)
        torch.cuda.current_stream().wait_stream(side)
        self.model, self.image, self.graph = model, image, torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = model(image)
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def block(self, repeats: int) -> float:
        self.begin.record()
        for _ in range(repeats):
            self.graph.replay()
        self.end.record()
        self.end.synchronize()
        return float(self.begin.elapsed_time(self.end)) / 1e3
