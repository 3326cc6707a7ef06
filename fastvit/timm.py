"""To and from timm: state dicts in both directions, Apple's released keys, and registered entry points.

timm is imported only where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastvit.config import SMALL_KERNEL, STAGES, FastViTConfig
from fastvit.model import FastViT

StateDict = Mapping[str, Tensor]

# Ours -> timm's, applied in order to every key; {mixer} stands for "mixer" of a RepMixer or attention block.
_TO_TIMM = (
    (r"^expand\.se\.reduce\.", "final_conv.se.fc1."),
    (r"^expand\.se\.expand\.", "final_conv.se.fc2."),
    (r"^expand\.", "final_conv."),
    (r"^head\.", "head.fc."),
    (r"\.downsample\.0\.(large|small)\.", r".downsample.proj.0.\1_conv."),
    (r"\.downsample\.1\.", ".downsample.proj.1."),
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
    (r"\blarge_conv\.bn\.", "lkb_origin.bn."), (r"\bmlp\b", "convffn"), (r"\bse\.fc1\b", "se.reduce"),
    (r"\bse\.fc2\b", "se.expand"), (r"(layer_scale(?:_\d)?)\.gamma$", r"\1"), (r"^head\.fc\.", "head."),
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
    inner: Any = state.get("state_dict", state)
    return _converted(inner, config, lambda key: _timm_to_apple(_ours_to_timm(key, config), config),
                      "head.weight", "Apple")


def expressible_in_timm(config: FastViTConfig) -> tuple[str, dict[str, Any]] | None:
    """The stock timm architecture and the model_args that make `config`, or None.

    timm has one RepMixer kernel and one patch kernel for all stages, 7x7 in every ConvFFN, widths that
    are multiples of each other, and a positional encoding before stage 4 only (that of fastvit_sa12,
    because pos_embs cannot be written as JSON).
    """
    base = {(False,) * STAGES: "fastvit_t8", (False, False, False, True): "fastvit_sa12"}.get(config.has_cpe)
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
    return base, args


class TimmFastViT(FastViT):
    """FastViT behind timm's conventions: forward_features gives the last map, features_only works.

    Args are timm's: in_chans, drop_path_rate (None: the configuration's), global_pool ("avg", or "" for
    features without pooling).
    """

    def __init__(self, config: FastViTConfig, num_classes: int = 1000, in_chans: int = 3,
                 drop_path_rate: float | None = None, global_pool: str = "avg") -> None:
        if global_pool not in ("avg", ""):
            raise ValueError(f"global_pool = {global_pool!r}: must be 'avg' or ''")
        if drop_path_rate is not None:
            config = config.replace(drop_path=drop_path_rate)
        super().__init__(config, num_classes, in_chans)
        self.global_pool = global_pool
        self.head_hidden_size = self.num_features
        self.feature_info: Any = [
            {"num_chs": width, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (width, stride) in enumerate(zip(config.widths, config.strides, strict=True))]

    def forward_features(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) -> the expanded last map (B, 2 * C4, H / 32, W / 32)."""
        return self.expand(super().forward_features(x)[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean((2, 3)) if self.global_pool else x
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_intermediates(self, x: Tensor, indices: int | list[int] | None = None, norm: bool = False,
                              stop_early: bool = False, output_fmt: str = "NCHW",
                              intermediates_only: bool = False) -> Any:
        """The maps of the stages in `indices` (None: all), and the expanded last map unless only they are asked."""
        from timm.models._features import feature_take_indices

        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt = {output_fmt!r}: must be NCHW")
        taken, last = feature_take_indices(len(self.stages), indices)
        maps = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            if stop_early and index > last:
                break
            x = stage(x)
            if index in taken:
                maps.append(x)
        return maps if intermediates_only else (self.expand(x), maps)

    def prune_intermediate_layers(self, indices: int | list[int] = 1, prune_norm: bool = False,
                                  prune_head: bool = True) -> list[int]:
        """Drop what the maps in `indices` do not need."""
        from timm.models._features import feature_take_indices

        taken, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[:last + 1]  # type: ignore[assignment]
        if prune_head or prune_norm or last < STAGES - 1:
            self.expand = nn.Identity()  # type: ignore[assignment]
            self.reset_classifier(0, "")
        return taken

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for timm's layer-wise learning rates."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.\w+\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise ValueError("gradient checkpointing is not supported; leave it off")

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
    defaults = {"num_classes": 1000, "input_size": (3, 256, 256), "pool_size": (8, 8), "crop_pct": 0.9,
                "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
                "classifier": "head", "first_conv": ("stem.0.convs.0.conv", "stem.0.scale.conv")}

    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        out_indices = kwargs.pop("out_indices", tuple(range(STAGES)))
        return build_model_with_cfg(TimmFastViT, name, pretrained, config=config,
                                    feature_cfg={"feature_cls": "getter", "out_indices": out_indices}, **kwargs)

    entry.__name__ = name
    entry.__module__ = __name__
    globals()[name] = entry  # timm looks a registered function up in its module
    globals()["default_cfgs"] = generate_default_cfgs({name: defaults | dict(pretrained_cfg or {})})
    _REGISTERED.add(name)
    register_model(entry)


_REGISTERED: set[str] = set()
