"""To and from timm: state dicts in both directions, Apple's released keys, and registered entry points.

timm is imported only where it is used.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastvit.config import SMALL_KERNEL, STAGES, FastViTConfig
from fastvit.model import FastViT

StateDict = Mapping[str, Tensor]
POOLS = ("avg", "max", "avgmax", "catavgmax", "")  # timm's

# Ours -> timm's, applied in order to every key; {mixer} stands for "mixer" of a RepMixer or attention block.
_TO_TIMM = (
    (r"^expand\.se\.reduce\.", "final_conv.se.fc1."),
    (r"^expand\.se\.expand\.", "final_conv.se.fc2."),
    (r"^expand\.", "final_conv."),
    (r"^head\.", "head.fc."),
    (r"\.downsample\.0\.(large|small)\.", r".downsample.proj.0.\1_conv."),
    (r"\.downsample\.0\.se\.", ".downsample.proj.0.se."),
    (r"\.downsample\.1\.", ".downsample.proj.1."),
    (r"\.se\.reduce\.", ".se.fc1."),
    (r"\.se\.expand\.", ".se.fc2."),
    (r"\.cpe\.conv\.", ".pos_emb.pos_enc."),
    (r"\.ffn\.dw\.", ".mlp.conv."),
    (r"\.ffn\.up\.", ".mlp.fc1."),
    (r"\.ffn\.down\.", ".mlp.fc2."),
    (r"\.mixer\.mixer\.", ".token_mixer.mixer."),
    (r"\.convs\.(\d+)\.", r".conv_kxk.\1."),
    (r"\.scale\.(conv|bn)\.", r".conv_scale.\1."),
)
_REPMIXER_TO_TIMM = (
    (r"\.mixer\.norm\.", ".token_mixer.norm.identity."),
    (r"\.mixer\.scale\.gamma$", ".token_mixer.layer_scale.gamma"),
    (r"(blocks\.\d+)\.scale\.gamma$", r"\1.layer_scale.gamma"),
)
_ATTENTION_TO_TIMM = (
    (r"\.mixer\.norm\.", ".norm."),
    (r"\.mixer\.attention\.", ".token_mixer."),
    (r"\.mixer\.scale\.gamma$", ".layer_scale_1.gamma"),
    (r"(blocks\.\d+)\.scale\.gamma$", r"\1.layer_scale_2.gamma"),
)
# timm's -> Apple's names inside a block; the flat `network.N` is worked out from the configuration.
_TIMM_TO_APPLE = (
    (r"^stem\.", "patch_embed."), (r"\bconv_kxk\b", "rbr_conv"), (r"\bconv_scale\b", "rbr_scale"),
    (r"\bidentity\b", "rbr_skip"), (r"^final_conv\.", "conv_exp."), (r"\blarge_conv\.conv\.", "lkb_origin.conv."),
    (r"\blarge_conv\.bn\.", "lkb_origin.bn."), (r"\bmlp\b", "convffn"),
    # MobileCLIP's SE inside patch embeddings is timm's module, and keeps its names.
    (r"^conv_exp\.se\.fc1\b", "conv_exp.se.reduce"), (r"^conv_exp\.se\.fc2\b", "conv_exp.se.expand"),
    (r"(layer_scale(?:_\d)?)\.gamma$", r"\1"), (r"^head\.fc\.", "head."),
)


def _renamed(key: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _ours_to_timm(key: str, config: FastViTConfig) -> str:
    match = re.match(r"stages\.(\d)\.", key)
    rules: tuple[tuple[str, str], ...] = _TO_TIMM
    if match:
        attention = config.mixers[int(match.group(1))] == "attention"
        rules = (_ATTENTION_TO_TIMM if attention else _REPMIXER_TO_TIMM) + _TO_TIMM
    return _renamed(key, rules)


def _timm_to_apple(key: str, config: FastViTConfig) -> str:
    match = re.match(r"stages\.(\d)\.(downsample\.proj|pos_emb\.pos_enc|blocks)\b(.*)", key)
    if match:
        stage, part, rest = int(match.group(1)), match.group(2), match.group(3)
        # Apple's `network` is one flat list: blocks of stage 1, patch embedding, (CPE,) blocks of stage 2, ...
        index = sum(2 + config.has_cpe[s] for s in range(1, stage)) + (1 if stage else 0)
        if part == "downsample.proj":
            key = f"network.{index}.proj{rest}"
        elif part == "pos_emb.pos_enc":
            key = f"network.{index + 1}.pe{rest}"
        else:
            key = f"network.{index + (1 + config.has_cpe[stage] if stage else 0)}{rest}"
    return _renamed(key, _TIMM_TO_APPLE)


def _template(config: FastViTConfig, num_classes: int) -> dict[str, Tensor]:
    """Our state dict's names and shapes, without memory for its values."""
    with torch.device("meta"):
        return FastViT(config, num_classes).state_dict()


def _converted(state: StateDict, config: FastViTConfig, name: Callable[[str], str], head: str,
               source: str) -> dict[str, Tensor]:
    """`state` under our names: `name` gives the foreign name of each of ours."""
    num_classes = state[head].shape[0] if head in state else 0
    ours, missing = {}, []
    for key, shape in _template(config, num_classes).items():
        foreign = name(key)
        if foreign not in state:
            missing.append(foreign)
            continue
        ours[key] = state[foreign].reshape(shape.shape)  # attention's linear weights are 1x1 convolutions here
    if missing:
        fused = any(".reparam_conv." in key or ".lkb_reparam." in key for key in state)
        why = "it is a fused one, convert the unfused weights" if fused else f"it lacks {missing[0]}"
        raise ValueError(f"this {source} state dict does not fit the configuration: {why}")
    left = sorted(set(state) - {name(key) for key in ours})
    if left:
        raise ValueError(f"this {source} state dict does not fit the configuration: {left[0]} has no place")
    return ours


def to_timm(state: StateDict, config: FastViTConfig) -> dict[str, Tensor]:
    """Our train-form state dict under the names and shapes of timm's FastViT."""
    def value(key: str, tensor: Tensor) -> Tensor:
        return tensor.flatten(1) if re.search(r"\.attention\.(qkv|proj)\.weight$", key) else tensor

    return {_ours_to_timm(key, config): value(key, tensor) for key, tensor in state.items()}


def from_timm(state: StateDict, config: FastViTConfig) -> dict[str, Tensor]:
    """timm's unfused state dict under our names.

    Raises:
        ValueError: a key is missing or left over, or the weights are fused.
    """
    return _converted(state, config, lambda key: _ours_to_timm(key, config), "head.fc.weight", "timm")


def to_apple(state: StateDict, config: FastViTConfig) -> dict[str, Tensor]:
    """Our train-form state dict under the names of Apple's released code."""
    return {_timm_to_apple(key, config): tensor for key, tensor in to_timm(state, config).items()}


def from_apple(state: StateDict, config: FastViTConfig) -> dict[str, Tensor]:
    """Apple's unfused state dict (or a checkpoint that holds one) under our names.

    Raises:
        ValueError: a key is missing or left over, or the weights are fused.
    """
    inner: Any = dict(state.get("state_dict", state))
    if "head.proj" in inner:  # MobileCLIP's projection: a matrix (features, outputs) without bias
        projection = inner.pop("head.proj")
        inner |= {"head.weight": projection.T.contiguous(), "head.bias": projection.new_zeros(projection.shape[1])}
    return _converted(inner, config, lambda key: _timm_to_apple(_ours_to_timm(key, config), config),
                      "head.weight", "Apple")


def expressible_in_timm(config: FastViTConfig) -> tuple[str, dict[str, Any]] | None:
    """The stock timm architecture and the model_args that make `config`, or None.

    timm has one RepMixer kernel and one patch kernel for all stages, 7x7 in every ConvFFN, widths that
    are multiples of each other, and a positional encoding where a stock architecture has it, before stage 4
    (fastvit_sa12) or before stages 4 and 5 (fastvit_mci3), because pos_embs cannot be written as JSON.
    """
    last = (False, False, False, True)
    base = {((False,) * STAGES, "batch"): "fastvit_t8", (last, "batch"): "fastvit_sa12",
            ((*last, True), "layer"): "fastvit_mci3"}.get((config.has_cpe, config.attention_norm))
    kernels = {k for k, mixer in zip(config.mixer_kernels, config.mixers, strict=True) if mixer == "repmixer"}
    widths_fit = all(c_mid == c_out for c_mid, c_out in zip(config.patch_widths, config.widths[1:], strict=True))
    fits = (base is not None and set(config.mixers) <= {"repmixer", "attention"} and len(kernels) <= 1
            and len(set(config.patch_kernels)) == 1 and config.patch_kernels[0] > SMALL_KERNEL
            and set(config.ffn_kernels) == {7} and widths_fit and config.stem_stride == 4 and config.head_dim == 32
            and config.cpe_kernel == 7 and config.branches == 1)
    if not fits or base is None:
        return None
    args: dict[str, Any] = {
        "layers": list(config.depths), "embed_dims": list(config.widths), "mlp_ratios": list(config.mlp_ratios),
        "token_mixers": list(config.mixers), "repmixer_kernel_size": next(iter(kernels), 3),
        "down_patch_size": config.patch_kernels[0], "layer_scale_init_value": config.layer_scale_init}
    if any(config.patch_se):
        args["se_downsamples"] = [False, *config.patch_se]
    if config.patch_act:
        args["lkc_use_act"] = True
    if config.stem_scale is (base == "fastvit_mci3"):
        args["stem_use_scale_branch"] = config.stem_scale
    if base == "fastvit_mci3" and not config.patch_act:
        args["lkc_use_act"] = False
    return base, args


def pretrained_names(config: FastViTConfig, *, stock: bool) -> dict[str, Any]:
    """timm's `classifier` and `first_conv`: which weights another num_classes or in_chans replaces or adapts.

    Args:
        stock: by the names of timm's own FastViT, else by ours.
    """
    conv, scale = ("stem.0.conv_kxk.{}.conv", "stem.0.conv_scale.conv") if stock else (
        "stem.0.convs.{}.conv", "stem.0.scale.conv")
    first = [conv.format(branch) for branch in range(max(1, config.branches))]
    if config.branches and config.stem_scale:
        first.append(scale)
    return {"classifier": "head.fc" if stock else "head", "first_conv": first[0] if len(first) == 1 else first}


class TimmFastViT(FastViT):
    """FastViT behind timm's conventions: forward_features gives the last map, features_only works.

    Args are timm's: in_chans, drop_rate (before the classifier), drop_path_rate (None: the configuration's),
    global_pool (one of timm's, or "" for features without pooling, which has no classifier), device, dtype.
    """

    def __init__(self, config: FastViTConfig, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0,
                 drop_path_rate: float | None = None, global_pool: str = "avg", device: Any = None,
                 dtype: torch.dtype | None = None) -> None:
        if drop_path_rate is not None:
            config = config.replace(drop_path=drop_path_rate)
        with torch.device(device) if device is not None else contextlib.nullcontext():
            super().__init__(config, num_classes, in_chans)
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.head_drop = nn.Dropout(drop_rate)
        self.grad_checkpointing = False
        self.global_pool = global_pool
        self.reset_classifier(num_classes, global_pool)
        if dtype is not None:
            self.to(dtype)
        self.feature_info: Any = [
            {"num_chs": width, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (width, stride) in enumerate(zip(config.widths, config.strides, strict=True))]

    @torch.jit.ignore
    def _checkpointed(self, stage: nn.Module, x: Tensor) -> Tensor:
        from timm.models import checkpoint_seq

        parts: Any = dict(stage.named_children())
        blocks = parts.pop("blocks")
        return checkpoint_seq([*parts.values(), *blocks], x)  # type: ignore[no-any-return]

    def forward_features(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) -> the expanded last map (B, 2 * C4, H / 32, W / 32)."""
        x = self.stem(x)
        for stage in self.stages:
            if self.grad_checkpointing and not torch.jit.is_scripting():  # noqa: SIM108 (TorchScript skips a branch)
                x = self._checkpointed(stage, x)
            else:
                x = stage(x)
        return self.expand(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.head_drop(self.pool(x))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.head

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        from timm.layers import SelectAdaptivePool2d

        pool = self.global_pool if global_pool is None else global_pool
        if pool not in POOLS:
            raise ValueError(f"global_pool = {pool!r}: must be one of {', '.join(map(repr, POOLS))}")
        if num_classes and global_pool == "":  # one that is asked for; timm keeps a pool that was taken away before
            raise ValueError("global_pool = '': without pooling there is no classifier; give num_classes=0")
        like = next(self.parameters())
        self.num_classes, self.global_pool = num_classes, pool
        self.pool = SelectAdaptivePool2d(pool_type=pool, flatten=bool(pool)).train(self.training)
        self.head_hidden_size = self.num_features * self.pool.feat_mult()
        if not num_classes:
            self.head = nn.Identity().train(self.training)
            return
        head = nn.Linear(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        self.head = head.train(self.training)

    @torch.jit.ignore
    def forward_intermediates(self, x: Tensor, indices: int | list[int] | None = None, norm: bool = False,
                              stop_early: bool = False, output_fmt: str = "NCHW",
                              intermediates_only: bool = False) -> Any:
        """The maps of the stages in `indices` (None: all), and the expanded last map unless only they are asked."""
        from timm.models._features import feature_take_indices

        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt = {output_fmt!r}: must be NCHW")
        taken, last = feature_take_indices(len(self.stages), indices)
        maps: list[Tensor] = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            if stop_early and index > last:
                return maps if intermediates_only else (x, maps)
            x = self._checkpointed(stage, x) if self.grad_checkpointing else stage(x)
            if index in taken:
                maps.append(x)
        return maps if intermediates_only else (self.expand(x), maps)

    @torch.jit.ignore
    def prune_intermediate_layers(self, indices: int | list[int] = 1, prune_norm: bool = False,
                                  prune_head: bool = True) -> list[int]:
        """Drop what the maps in `indices` do not need."""
        from timm.models._features import feature_take_indices

        taken, last = feature_take_indices(len(self.stages), indices)
        if prune_head or prune_norm or last < len(self.stages) - 1:
            self.expand = nn.Identity()  # type: ignore[assignment]
            self.num_features = self.feature_info[last]["num_chs"]
            self.reset_classifier(0, "")
        self.stages = self.stages[:last + 1]  # type: ignore[assignment]
        return taken

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for timm's layer-wise learning rates."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else [
            (r"^stages\.(\d+)\.(?:downsample|cpe)", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each part of a stage in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if name.endswith("gamma")}


def register(name: str, config: FastViTConfig, pretrained_cfg: Mapping[str, Any] | None = None) -> None:
    """Make `timm.create_model(name)` build `config`; a second registration of one name replaces the first.

    Raises:
        ValueError: the name is one of timm's own, or no Python identifier.
    """
    import timm
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

    if not name.isidentifier():
        raise ValueError(f"name = {name!r}: must be a Python identifier")
    if timm.is_model(name) and name not in _REGISTERED:
        raise ValueError(f"name = {name!r}: timm has a model of that name; choose another")
    defaults = {"num_classes": 1000, "input_size": (3, 256, 256), "crop_pct": 0.9,
                "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    defaults["pool_size"] = (-(-256 // config.strides[-1]),) * 2
    given = dict(pretrained_cfg or {}) | pretrained_names(config, stock=False)

    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        out_indices = kwargs.pop("out_indices", tuple(range(config.stages)))
        return build_model_with_cfg(TimmFastViT, name, pretrained, config=config,
                                    feature_cfg={"feature_cls": "getter", "out_indices": out_indices}, **kwargs)

    entry.__name__ = name
    entry.__module__ = __name__
    globals()[name] = entry  # timm looks a registered function up in its module
    globals()["default_cfgs"] = generate_default_cfgs({name: defaults | given})
    _REGISTERED.add(name)
    register_model(entry)


_REGISTERED: set[str] = set()
