"""What is measured: a FastViT configuration, or any model of timm, in its deployed form with random weights."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.hint import did_you_mean
from nas.errors import Failure, UsageError

if TYPE_CHECKING:
    import torch

TIMM = "timm:"
COPIES = 3  # of the weights while a network is measured


class Needs(NamedTuple):
    """What running a network once takes, in millions: parameters, all activations of one image, and those of its
    largest part, which are in memory at one time."""

    params_m: float
    activations_m: float
    peak_m: float


@dataclass(frozen=True)
class Network:
    """A target of measuring: a configuration, or the name of a model in timm."""

    config: FastViTConfig | None = None
    timm: str = ""

    @classmethod
    def of(cls, target: FastViTConfig | str | dict[str, Any]) -> Network:
        """From a configuration, "timm:NAME", or what `to_dict` made.

        Raises:
            UsageError: neither.
        """
        if isinstance(target, FastViTConfig):
            return cls(config=target)
        if isinstance(target, dict):
            return cls(config=FastViTConfig.from_dict(target))
        if target.startswith(TIMM):
            return cls(timm=target.removeprefix(TIMM))
        raise UsageError(f"{target!r}: expected a configuration or {TIMM}NAME")

    def to_dict(self) -> dict[str, Any] | str:
        return TIMM + self.timm if self.config is None else self.config.to_dict()

    @property
    def target(self) -> FastViTConfig | str:
        return TIMM + self.timm if self.config is None else self.config

    @property
    def name(self) -> str:
        return TIMM + self.timm if self.config is None else self.config.key()

    @property
    def key(self) -> str:
        if self.config is not None:
            return self.config.key()
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    def check(self) -> None:
        """Refuse a name that timm does not know.

        Raises:
            UsageError: unknown, with the nearest names.
        """
        if self.config is not None:
            return
        import timm

        known = timm.list_models()
        if self.timm not in known and self.timm.split(".")[0] not in known:
            raise UsageError(f"{self.name}: timm {timm.__version__} has no model of that name"
                             + did_you_mean(self.timm, known, count=3, cutoff=0.4))

    def needs(self, resolution: int) -> Needs:
        """Counted from shapes alone, so that it can be asked of any network before one is built.

        Raises:
            UsageError: timm does not know the model.
            Failure: timm cannot build it at this resolution.
        """
        if self.config is not None:
            found = cost(self.config, resolution)
            return Needs(found.params_m, found.activations_m, max(block.activations_m for block in found.blocks))
        self.check()
        return _timm_needs(self.timm, resolution)

    def memory_gb(self, resolution: int, batch: int) -> float:
        """About what measuring takes: the weights as a module, as a file and in the runtime, and activations. Raises
        as `needs`."""
        needs = self.needs(resolution)
        return 4e-3 * (COPIES * needs.params_m + needs.peak_m * batch)

    def size(self, resolution: int) -> tuple[float, float | None]:
        """Millions of parameters of the deployed network, and GMACs where they are known in closed form."""
        if self.config is not None:
            found = cost(self.config, resolution)
            return found.params_m, found.gmacs
        return sum(p.numel() for p in _timm_deployed(self.timm, resolution).parameters()) / 1e6, None

    def counted(self, resolution: int) -> tuple[float, float]:
        """Millions of parameters and GMACs; what has no closed form is run once and counted."""
        params_m, gmacs = self.size(resolution)
        if gmacs is None:
            import torch
            from torch.utils.flop_counter import FlopCounterMode

            with FlopCounterMode(display=False) as counter, torch.no_grad():
                _timm_deployed(self.timm, resolution)(torch.zeros(1, 3, resolution, resolution))
            gmacs = counter.get_total_flops() / 2e9
        return params_m, gmacs

    @cached_property
    def skeleton(self) -> Any:
        """The fused FastViT on torch's meta device: shapes without numbers.

        Arithmetic is slow there. The blocks of one stage are alike once fused, so one is fused and copied, and
        branches, which fusing removes, are not built: a twentieth of a second instead of up to two.
        """
        import torch
        from torch import nn

        from fastvit import FastViT, reparameterize

        assert self.config is not None
        with torch.device("meta"):
            fused: Any = reparameterize(FastViT(self.config.replace(depths=(1,) * len(self.config.depths), branches=0)))
        fused.config = self.config
        for layers, depth in zip(fused.stages, self.config.depths, strict=True):
            block = layers.blocks[0]
            layers.blocks = nn.Sequential(block, *(copy.deepcopy(block) for _ in range(depth - 1)))
        return fused

    def module(self, resolution: int) -> torch.nn.Module:
        """The deployed network with random weights, in eval mode."""
        if self.config is None:
            return _timm_deployed(self.timm, resolution)
        import torch

        from nas.latency.onnx_graph import random_weights

        model: torch.nn.Module = self.skeleton.to_empty(device="cpu")
        vars(self).pop("skeleton")  # it holds numbers now
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                fan_in = parameter[0].numel() if parameter.dim() > 1 else 16
                parameter.copy_(torch.from_numpy(random_weights(tuple(parameter.shape), fan_in, number)))
        return model

    def onnx(self, resolution: int, batch: int) -> bytes:
        """The network as an ONNX file with input "image".

        Raises:
            Failure: the model of timm cannot be exported.
        """
        if self.config is not None:
            from nas.latency.onnx_graph import to_onnx

            data: bytes = to_onnx(self.skeleton, resolution, batch).SerializeToString()
            return data
        import io
        import warnings

        import torch

        buffer = io.BytesIO()
        model = self.module(resolution)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(model, (torch.zeros(batch, 3, resolution, resolution),),
                                  buffer, dynamo=False,  # type: ignore[arg-type]
                                  input_names=["image"], output_names=["logits"], opset_version=17)
        except Exception as error:
            raise Failure(f"{self.name} cannot be exported to ONNX at {resolution} px: {error}") from error
        return buffer.getvalue()


@lru_cache(maxsize=256)
def _timm_needs(name: str, resolution: int) -> Needs:
    """Of a model of timm, on torch's meta device. Counted are the outputs of convolutions and matrix products, the maps
    of attention among them, as fastvit.cost counts them; four of the largest stand for what is there at one time."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Outputs(TorchDispatchMode):
        elements = largest = 0

        def add(self, elements: int) -> None:
            self.elements, self.largest = self.elements + elements, max(self.largest, elements)

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = operator(*args, **(kwargs or {}))
            words = operator._schema.name
            if "attention" in words:
                query, key = args[:2]
                self.add(query.numel() // query.shape[-1] * key.shape[-2])
            if any(word in words for word in ("convolution", "mm", "linear", "attention")):
                first = found[0] if isinstance(found, (tuple, list)) else found
                self.add(first.numel())
            return found

    with torch.device("meta"):
        model = _timm_built(name, resolution)
        try:
            with torch.no_grad(), Outputs() as outputs:
                model(torch.zeros(1, 3, resolution, resolution))
        except Exception as error:
            raise Failure(f"timm cannot run {name} at {resolution} px: {str(error).splitlines()[0][:200]}") from error
    params = sum(p.numel() for p in model.parameters())
    return Needs(params / 1e6, outputs.elements / 1e6, 4 * outputs.largest / 1e6)


def _timm_built(name: str, resolution: int) -> torch.nn.Module:
    """A model of timm as its code makes it, in eval mode.

    Raises:
        Failure: timm cannot build it at this resolution.
    """
    import timm
    from timm.models import get_pretrained_cfg_value

    arguments: list[dict[str, Any]] = [{}]
    if resolution != (get_pretrained_cfg_value(name, "input_size") or (3, 0, 0))[-1]:
        arguments.insert(0, {"img_size": resolution})  # transformers with fixed grids need to be told
    for keywords in arguments:
        try:
            model: torch.nn.Module = timm.create_model(name, pretrained=False, **keywords).eval()
            return model
        except TypeError:
            continue
        except Exception as error:
            raise Failure(f"timm cannot build {name} at {resolution} px: {error}") from error
    raise Failure(f"timm cannot build {name}")


def _timm_deployed(name: str, resolution: int) -> torch.nn.Module:
    """A model of timm with random weights, reparameterized or fused where its code offers it. Raises as _timm_built."""
    import torch
    from timm.utils.model import reparameterize_model

    model = _timm_built(name, resolution)
    # Whatever has fuse(), reparameterize() or switch_to_deploy(): LeViT, RepViT, FastViT, MobileOne, RepVGG, ...
    deployed: torch.nn.Module = reparameterize_model(model)
    deployed.requires_grad_(False)
    for parameter in deployed.parameters():
        # Tensors that begin at zero are alike, and an exporter would store and load them once.
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, 0.0, 0.02)
    return deployed
