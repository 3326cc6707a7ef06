"""Weights of a larger network sliced into a smaller one, so that its training starts warm.

Kept are evenly spaced blocks, the strongest channels, hidden channels and heads, and the centres of
kernels. Whatever the larger network lacks keeps its fresh initialisation. BatchNorm statistics are to
be taken anew afterwards (nas.export.weights.calibrate): sums over fewer channels have other ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from fastvit.config import SE_RATIO, FastViTConfig, patch_se_width
from fastvit.model import HEAD_EXPANSION, FastViT

State = Mapping[str, Tensor]
Pairs = tuple[Tensor, Tensor]  # positions in the new tensor, and in the larger one's


def _strongest(strength: Tensor, count: int) -> Pairs:
    """The `count` largest entries (all when there are fewer), in their old order."""
    count = min(count, len(strength))
    return torch.arange(count), strength.topk(count).indices.sort().values


def _block_map(small: int, large: int) -> dict[int, int]:
    """New block -> old block, evenly spaced; a deeper network leaves the blocks between fresh."""
    few, many = min(small, large), max(small, large)
    spread = [round(i * (many - 1) / (few - 1)) if few > 1 else 0 for i in range(few)]
    return dict(zip(range(few), spread, strict=True)) if small <= large else dict(zip(spread, range(few), strict=True))


class _Slicer:
    """Which parts of the larger network's tensors go where in the smaller one's."""

    def __init__(self, state: State, large: FastViTConfig, small: FastViTConfig) -> None:
        self.state = _with_identity_inside(state, large)
        self.large, self.small = large, small
        # With another number of stages the shared ones are inherited; what follows the last one starts fresh.
        self.stages, self.alike = min(large.stages, small.stages), large.stages == small.stages
        self.blocks = [_block_map(s, b) for s, b in zip(small.depths, large.depths, strict=False)]
        self.channels = [_strongest(self._use(stage), small.widths[stage]) for stage in range(self.stages)]
        self.mid = [self._mid(stage) for stage in range(1, self.stages)]
        new, old = self.channels[-1]
        step = torch.arange(HEAD_EXPANSION)
        self.expanded = tuple((p[:, None] * HEAD_EXPANSION + step).flatten() for p in (new, old))
        squeeze = self.state["expand.se.reduce.weight"].flatten(1)
        self.squeezed = _strongest(squeeze.norm(dim=1), max(1, int(small.widths[-1] * HEAD_EXPANSION * SE_RATIO)))

    def _use(self, stage: int) -> Tensor:
        """How much the blocks of a stage read from each channel of its residual stream."""
        return torch.stack([self.state[f"stages.{stage}.blocks.{b}.ffn.up.weight"].flatten(1).norm(dim=0)
                            for b in range(self.large.depths[stage])]).sum(0)

    def _mid(self, stage: int) -> Pairs:
        """Channels inside the patch embedding before `stage`: each belongs to one channel of the stage before."""
        few = self.small.patch_widths[stage - 1] // self.small.widths[stage - 1]
        many = self.large.patch_widths[stage - 1] // self.large.widths[stage - 1]
        use = self.state[f"stages.{stage}.downsample.1.convs.0.conv.weight"].flatten(1).norm(dim=0).view(-1, many)
        new, old = [], []
        for position, channel in zip(*(p.tolist() for p in self.channels[stage - 1]), strict=True):
            places, chosen = _strongest(use[channel], few)
            new.append(position * few + places)
            old.append(channel * many + chosen)
        return torch.cat(new), torch.cat(old)

    def _hidden(self, stage: int, block: str) -> Pairs:
        up, down = (self.state[f"{block}.ffn.{part}.weight"].flatten(1) for part in ("up", "down"))
        return _strongest(up.norm(dim=1) * down.norm(dim=0), self.small.hidden_widths[stage])

    def _heads(self, stage: int, block: str) -> Pairs:
        """Channels of the strongest heads, each head whole."""
        size = self.small.head_dim
        strength = self.state[f"{block}.mixer.attention.proj.weight"].flatten(1).norm(dim=0).view(-1, size).sum(1)
        pair = _strongest(strength, self.small.widths[stage] // size)
        return tuple((p[:, None] * size + torch.arange(size)).flatten() for p in pair)  # type: ignore[return-value]

    def places(self, key: str) -> tuple[str, list[Pairs | None]] | None:
        """The larger network's name of our tensor, and the pairs of its first two dimensions (None: as they are).

        None as a whole: nothing there to inherit.
        """
        parts = key.split(".")
        if parts[0] == "stem":
            inner = parts[1] == "2" and key.endswith("conv.weight")
            return key, [self.channels[0], self.channels[0] if inner else None]
        if parts[0] in ("head", "expand") and not self.alike:
            return None
        if parts[0] == "head":
            return key, [None, self.expanded]  # type: ignore[list-item]
        if parts[0] == "expand":
            if parts[1] != "se":
                return key, [self.expanded, None]  # type: ignore[list-item]
            pairs = [self.squeezed, self.expanded] if parts[2] == "reduce" else [self.expanded, self.squeezed]
            return key, pairs  # type: ignore[return-value]
        stage = int(parts[1])
        if stage >= self.stages:
            return None
        if parts[2] == "downsample":
            if parts[4] == "se":
                return self._patch_gate(stage, key)
            if parts[3] == "0":
                return key, [self.mid[stage - 1], None]
            inner = key.endswith("conv.weight")
            return key, [self.channels[stage], self.mid[stage - 1] if inner else None]
        if parts[2] == "cpe":
            return key, [self.channels[stage], None]
        old = self.blocks[stage].get(int(parts[3]))
        if old is None:
            return None
        block = f"stages.{stage}.blocks.{old}"
        return self._in_block(stage, block, ".".join(parts[4:]))

    def _patch_gate(self, stage: int, key: str) -> tuple[str, list[Pairs | None]] | None:
        """The SE of a patch embedding, where both networks have one."""
        reduce = self.state.get(f"stages.{stage}.downsample.0.se.reduce.weight")
        if reduce is None:
            return None
        mid = self.mid[stage - 1]
        squeezed = _strongest(reduce.flatten(1).norm(dim=1), patch_se_width(self.small.patch_widths[stage - 1]))
        return key, [squeezed, mid] if ".reduce." in key else [mid, squeezed]

    def _in_block(self, stage: int, block: str, rest: str) -> tuple[str, list[Pairs | None]] | None:
        channels, name = self.channels[stage], f"{block}.{rest}"
        if rest.startswith("mixer.") and (self.small.mixers[stage] != self.large.mixers[stage]):
            return None
        if rest.startswith("mixer.attention."):
            if self.small.head_dim != self.large.head_dim:
                return None
            heads = self._heads(stage, block)
            if rest.endswith("proj.weight"):
                return name, [channels, heads]
            if rest.endswith("proj.bias"):
                return name, [channels, None]
            widths = (self.small.widths[stage], self.large.widths[stage])
            rows = tuple(torch.cat([p + third * width for third in range(3)])
                         for p, width in zip(heads, widths, strict=True))
            return name, [rows, channels]  # type: ignore[list-item]
        if rest.startswith("ffn.up."):
            return name, [self._hidden(stage, block), channels]
        if rest == "ffn.down.weight":
            return name, [channels, self._hidden(stage, block)]
        return name, [channels, None]


def _with_identity_inside(state: State, config: FastViTConfig) -> dict[str, Tensor]:
    """`state` with the identity branch of each patch embedding's 1x1 inside its convolution.

    Output channel o of that branch is input channel o. Once rows and columns are chosen apart, they no
    longer meet, so the branch is written as entries of the 1x1 kernel. The identity's running variance
    is its input's, which gives the new variance (taking the branches as independent) and the gain that
    keeps the scale.
    """
    state = dict(state)
    for stage in range(1, config.stages):
        at = f"stages.{stage}.downsample.1."
        if f"{at}identity.weight" not in state or f"{at}convs.1.conv.weight" in state:
            continue
        gain, bias, mean, var = (state[f"{at}convs.0.bn.{part}"]
                                 for part in ("weight", "bias", "running_mean", "running_var"))
        own = {n: state.pop(f"{at}identity.{n}") for n in ("weight", "bias", "running_mean", "running_var")}
        scale = gain / (var + 1e-5).sqrt()
        scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
        slope = own["weight"] / (own["running_var"] + 1e-5).sqrt()
        kernel = state[f"{at}convs.0.conv.weight"].clone()
        index = torch.arange(kernel.shape[0])
        kernel[index, index, 0, 0] += slope / scale
        mean = mean + slope / scale * own["running_mean"]
        grown = var + (slope / scale).square() * own["running_var"]
        state |= {f"{at}convs.0.conv.weight": kernel, f"{at}convs.0.bn.bias": bias + own["bias"],
                  f"{at}convs.0.bn.weight": scale * (grown + 1e-5).sqrt(), f"{at}convs.0.bn.running_var": grown,
                  f"{at}convs.0.bn.running_mean": mean}
    return state


def _centred(source: Tensor, size: int) -> Tensor:
    """Kernels (..., k, k) at another odd size: their centre, or themselves with zeros around."""
    missing = size - source.shape[-1]
    return torch.nn.functional.pad(source, [missing // 2] * 4) if missing else source


def inherit(state: State, large: FastViTConfig, small: FastViTConfig, num_classes: int) -> tuple[FastViT, float]:
    """A train form of `small` that starts from the unfused weights `state` of `large` (under our names). What `large`
    lacks is initialised by a seed of its own; torch's global generator stays as it was.

    Returns:
        The model, its BatchNorm statistics still to be calibrated, and the share of its parameters that
        were inherited.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FastViT(small, num_classes)
    return model, fill(model, state, large)[0]


def fill(model: FastViT, state: State, large: FastViTConfig) -> tuple[float, list[Pairs]]:
    """Write the slice of the unfused weights `state` of `large` that `model` has room for into it, in place.

    Returns:
        The share of the model's parameters that were inherited (the others stay as they are), and, of each stage's
        output, the channel numbers in the model and in `large`.
    """
    slicer = _Slicer(state, large, model.config)
    names = dict(model.named_parameters())
    inherited = 0
    fresh = model.state_dict()
    for key, target in fresh.items():
        if re.match(r"stages\.\d\.downsample\.1\.identity\.(weight|bias)$", key) and key not in slicer.state:
            target.zero_()  # its part is inside the 1x1 kernel
            continue
        found = slicer.places(key)
        if found is None or found[0] not in slicer.state or not target.dim():
            continue
        source, pairs = slicer.state[found[0]], found[1]
        if source.dim() != target.dim() or (key.startswith("head.") and source.shape[0] != target.shape[0]):
            continue
        if source.dim() == 4:
            source = _centred(source, target.shape[-1])
        index_new, index_old = [], []
        for dim in range(min(2, target.dim())):
            every = torch.arange(min(target.shape[dim], source.shape[dim]))
            new, old = pairs[dim] or (every, every)
            index_new.append(new)
            index_old.append(old)
        if target.dim() == 1:
            target[index_new[0]] = source[index_old[0]]
        else:
            # What reads channels that the larger network lacks starts at zero: fresh noise would drown the rest.
            target[index_new[0]] = 0
            target[index_new[0][:, None], index_new[1]] = source[index_old[0][:, None], index_old[1]]
        if key in names:
            inherited += index_new[0].numel() * (index_new[1].numel() if target.dim() > 1 else 1) * (
                target[0, 0].numel() if target.dim() == 4 else 1)
    model.load_state_dict(fresh)
    return inherited / sum(p.numel() for p in model.parameters()), slicer.channels
