"""What is measured: a FastViT configuration, or any model of timm, in its deployed form with random weights."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.hint import did_you_mean
from nas.errors import Failure, UsageError

if TYPE_CHECKING:
    import torch

TIMM = "timm:"


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


def _timm_deployed(name: str, resolution: int) -> torch.nn.Module:
    """A model of timm with random weights, reparameterized or fused where its code offers it.

    Raises:
        Failure: timm cannot build it at this resolution.
    """
    import timm
    import torch
    from timm.models import get_pretrained_cfg_value
    from timm.utils.model import reparameterize_model

    arguments: list[dict[str, Any]] = [{}]
    if resolution != (get_pretrained_cfg_value(name, "input_size") or (3, 0, 0))[-1]:
        arguments.insert(0, {"img_size": resolution})  # transformers with fixed grids need to be told
    for keywords in arguments:
        try:
            model = timm.create_model(name, pretrained=False, **keywords).eval()
            break
        except TypeError:
            continue
        except Exception as error:
            raise Failure(f"timm cannot build {name} at {resolution} px: {error}") from error
    else:
        raise Failure(f"timm cannot build {name}")
    # Whatever has fuse(), reparameterize() or switch_to_deploy(): LeViT, RepViT, FastViT, MobileOne, RepVGG, ...
    deployed: torch.nn.Module = reparameterize_model(model)
    deployed.requires_grad_(False)
    for parameter in deployed.parameters():
        # Tensors that begin at zero are alike, and an exporter would store and load them once.
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, 0.0, 0.02)
    return deployed
