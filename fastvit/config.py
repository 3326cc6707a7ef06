"""FastViTConfig: every choice that makes a FastViT, validated before any module is built.

Needs no torch, so that the command line and the dashboard can read configurations at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

STAGES = 4
STAGE_COUNTS = (4, 5)  # MobileCLIP2's MCi3 and MCi4 have a fifth
MIXERS = ("repmixer", "attention", "pool", "convmixer")
STEM_STRIDES = (1, 2, 4)
# Attention mixes globally and has no kernel. One network must have one key, so the entry is fixed.
UNUSED_KERNEL = 3
SMALL_KERNEL = 3  # the parallel branch of the large-kernel convolution, and the stem's and head's kernel
SE_RATIO = 1 / 16  # squeeze-and-excitation of the head (MobileOne, section 3.1)

_SHORT = reprlib.Repr()  # of values in messages, however long they are
_SHORT.maxlist = _SHORT.maxtuple = 4
_SHORT.maxlevel = 2

# Far beyond every published network, and small enough that no description of one takes this machine's memory.
MOST_DEPTH, MOST_WIDTH, MOST_KERNEL, MOST_BRANCHES, MOST_RATIO = 256, 8192, 63, 32, 64.0

ATTENTION_NORMS = ("batch", "layer")

_TRAINING_ONLY = {"branches", "layer_scale_init", "drop_path", "stem_scale"}
# Came with Apple's successors. As published in 2023 they are left out of dictionaries, JSON and keys.
_SUCCESSORS = ("patch_se", "patch_act", "attention_norm", "stem_scale")


def patch_se_width(channels: int) -> int:
    """Hidden channels of the SE in a patch embedding: a quarter, as a multiple of 8."""
    return max(8, int(channels / 4 + 4) // 8 * 8)


def _entries(name: str, value: Any, count: int) -> tuple[Any, ...]:
    # The first look is for speed: a search makes tens of thousands of configurations.
    if type(value) not in (tuple, list) and (isinstance(value, (str, bytes)) or not isinstance(value, Sequence)):
        raise ValueError(f"{name} = {_SHORT.repr(value)}: expected a sequence of {count} entries")
    if len(value) != count:
        raise ValueError(f"{name} = {_SHORT.repr(tuple(value[:9]))}: expected {count} entries, got {len(value)}")
    return tuple(value)


def _integers(name: str, value: Any, count: int, low: int, high: int, *, odd: bool = False) -> tuple[int, ...]:
    entries = _entries(name, value, count)
    for entry in entries:
        _integer(name, entry, low, high, odd=odd, of=entries)
    return entries


def _integer(name: str, value: Any, low: int, high: int, *, odd: bool = False, of: Any = None) -> None:
    """`of`: the entries that hold the value."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= high or (odd and value % 2 == 0):
        kind = "an odd integer" if odd else "an integer"
        shown = _SHORT.repr(value if of is None else of)
        raise ValueError(f"{name} = {shown}: {_SHORT.repr(value)} must be {kind} from {low} to {high}")


def _number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    # Compared before it becomes a float: an integer of a thousand digits is none.
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not valid or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} = {_SHORT.repr(value)}: must be a number in {bracket}{low:g}, {high:g}]")
    return float(value)


@dataclass(frozen=True)
class FastViTConfig:
    """One FastViT. Sequences hold one entry a stage (four, or five); `patch_kernels` and `patch_se` one for each
    patch embedding between stages. The defaults repeat for a fifth stage.

    Two configurations are equal, and share a `key()`, when their deployed (fused) networks have the
    same architecture: `branches`, `layer_scale_init` and `drop_path` only shape training and are
    left out of both.

    Raises:
        ValueError: names the field, the value and the rule that it breaks.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    mixers: tuple[str, ...]
    mixer_kernels: tuple[int, ...] = (3, 3, 3, 3)
    ffn_kernels: tuple[int, ...] = (7, 7, 7, 7)
    patch_kernels: tuple[int, ...] = (7, 7, 7)
    # Conditional positional encoding before a stage; None: before every attention stage, as published.
    cpe: tuple[bool, ...] | None = None
    cpe_kernel: int = 7
    head_dim: int = 32
    # 4 as published; 2 and 1 keep the grids of small images meaningful.
    stem_stride: int = 4
    # Apple's successors (MobileCLIP's MCi): SE and GELU behind the large kernel of a patch embedding, LayerNorm
    # instead of BatchNorm before attention, a stem without 1x1 branches.
    patch_se: tuple[bool, ...] = (False, False, False)
    patch_act: bool = False
    attention_norm: str = "batch"
    stem_scale: bool = field(default=True, compare=False)
    # The over-parameterization factor: k x k branches in each MobileOne block while training.
    # 0 is the lean form, plain convolution + BatchNorm everywhere.
    branches: int = field(default=1, compare=False)
    layer_scale_init: float = field(default=1e-5, compare=False)
    drop_path: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen dataclass)
        stages = len(self.depths) if isinstance(self.depths, Sequence) else STAGES
        if stages not in STAGE_COUNTS:
            raise ValueError(f"depths = {_SHORT.repr(self.depths)}: expected 4 entries (or 5), got {stages}")
        if stages != STAGES:
            for name in ("mixer_kernels", "ffn_kernels", "patch_kernels", "patch_se"):
                given, usual = getattr(self, name), getattr(FastViTConfig, name)
                if isinstance(given, Sequence) and tuple(given) == usual:
                    put(name, usual + usual[:1])
        put("depths", _integers("depths", self.depths, stages, 1, MOST_DEPTH))
        put("widths", _integers("widths", self.widths, stages, 1, MOST_WIDTH))
        ratios = _entries("mlp_ratios", self.mlp_ratios, stages)
        put("mlp_ratios", tuple(_number("mlp_ratios", r, 0, MOST_RATIO, open_low=True) for r in ratios))
        mixers = _entries("mixers", self.mixers, stages)
        for mixer in mixers:
            if mixer not in MIXERS:
                raise ValueError(f"mixers = {_SHORT.repr(mixers)}: {_SHORT.repr(mixer)} must be one of "
                                 + ", ".join(MIXERS))
        put("mixers", mixers)
        kernels = _integers("mixer_kernels", self.mixer_kernels, stages, 3, MOST_KERNEL, odd=True)
        put("mixer_kernels", tuple(UNUSED_KERNEL if m == "attention" else k
                                   for m, k in zip(mixers, kernels, strict=True)))
        put("ffn_kernels", _integers("ffn_kernels", self.ffn_kernels, stages, 3, MOST_KERNEL, odd=True))
        put("patch_kernels", _integers("patch_kernels", self.patch_kernels, stages - 1, 3, MOST_KERNEL, odd=True))
        if self.cpe is None:
            put("cpe", tuple(mixer == "attention" for mixer in mixers))
        cpe = _entries("cpe", self.cpe, stages)
        if not all(isinstance(entry, bool) for entry in cpe):
            raise ValueError(f"cpe = {_SHORT.repr(cpe)}: every entry must be true or false")
        put("cpe", cpe)
        _integer("cpe_kernel", self.cpe_kernel, 3, MOST_KERNEL, odd=True)
        if not any(cpe):
            put("cpe_kernel", 7)  # unused: one network, one key
        _integer("head_dim", self.head_dim, 1, MOST_WIDTH)
        for stage, (width, mixer) in enumerate(zip(self.widths, mixers, strict=True), 1):
            if mixer == "attention" and width % self.head_dim:
                raise ValueError(
                    f"widths = {self.widths!r}: stage {stage} uses attention, so its width {width} "
                    f"must be a multiple of head_dim = {self.head_dim}")
            if int(width * self.mlp_ratios[stage - 1]) < 1:
                raise ValueError(f"mlp_ratios = {self.mlp_ratios!r}: stage {stage} has no hidden channel")
        if "attention" not in mixers:
            put("head_dim", 32)  # unused: one network, one key
        if isinstance(self.stem_stride, bool) or self.stem_stride not in STEM_STRIDES:
            raise ValueError(f"stem_stride = {_SHORT.repr(self.stem_stride)}: must be one of {STEM_STRIDES}")
        put("patch_se", _entries("patch_se", self.patch_se, stages - 1))
        for name, flags in (("patch_se", self.patch_se), ("patch_act", (self.patch_act,)),
                            ("stem_scale", (self.stem_scale,))):
            if not all(isinstance(flag, bool) for flag in flags):
                raise ValueError(f"{name} = {_SHORT.repr(getattr(self, name))}: must be true or false")
        if self.attention_norm not in ATTENTION_NORMS:
            raise ValueError(f"attention_norm = {_SHORT.repr(self.attention_norm)}: must be one of "
                             + ", ".join(ATTENTION_NORMS))
        if "attention" not in mixers:
            put("attention_norm", "batch")  # unused: one network, one key
        _integer("branches", self.branches, 0, MOST_BRANCHES)
        put("layer_scale_init", _number("layer_scale_init", self.layer_scale_init, 0, 10, open_low=True))
        put("drop_path", _number("drop_path", self.drop_path, 0, 0.99))

    @property
    def has_cpe(self) -> tuple[bool, ...]:
        """`cpe`, which is never None once validated."""
        assert self.cpe is not None
        return self.cpe

    @property
    def stages(self) -> int:
        """How many stages there are: four as published, five in MCi3 and MCi4."""
        return len(self.depths)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Channels inside the ConvFFN of each stage: int(width * ratio)."""
        return tuple(int(w * r) for w, r in zip(self.widths, self.mlp_ratios, strict=True))

    @property
    def patch_widths(self) -> tuple[int, ...]:
        """Channels between the large-kernel and the 1x1 convolution of each patch embedding.

        The stock block has groups = C_in and C_out outputs, so C_out must be a multiple of C_in.
        C_in * max(1, round(C_out / C_in)) keeps the convolution depthwise for any pair of widths and
        equals the stock block where that one exists.
        """
        return tuple(c_in * max(1, round(c_out / c_in))
                     for c_in, c_out in zip(self.widths, self.widths[1:], strict=False))

    @property
    def strides(self) -> tuple[int, ...]:
        """Total stride of each stage's feature map, in input pixels."""
        return tuple(self.stem_stride * 2**stage for stage in range(self.stages))

    def replace(self, **changes: Any) -> FastViTConfig:
        """A copy with some fields changed. CPE follows the mixers unless it is given."""
        followed = self.cpe == tuple(mixer == "attention" for mixer in self.mixers)
        if "mixers" in changes and followed:
            changes.setdefault("cpe", None)
        return dataclasses.replace(self, **changes)

    def in_four_stages(self) -> FastViTConfig:
        """The network as models that know four stages can take it: a fifth counts with the fourth. Else itself."""
        if self.stages == STAGES:
            return self
        *_, fourth, fifth = range(self.stages)
        merged: dict[str, Any] = {name: (*getattr(self, name)[:fourth], getattr(self, name)[fifth]) for name in (
            "widths", "mixers", "mixer_kernels", "ffn_kernels", "cpe")}
        merged |= {name: (*getattr(self, name)[:fourth - 1], getattr(self, name)[fourth]) for name in (
            "patch_kernels", "patch_se")}
        ratio = (self.mlp_ratios[fourth] + self.mlp_ratios[fifth]) / 2
        return self.replace(depths=(*self.depths[:fourth], self.depths[fourth] + self.depths[fifth]),
                            mlp_ratios=(*self.mlp_ratios[:fourth], ratio), **merged)

    def to_dict(self) -> dict[str, Any]:
        values = {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in _field_names()}
        for name in _SUCCESSORS:
            default = getattr(FastViTConfig, name)
            if values[name] == default or (name == "patch_se" and not any(values[name])):
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FastViTConfig:
        if not isinstance(values, Mapping):
            raise ValueError(f"{_SHORT.repr(values)}: expected an object with the fields of a FastViTConfig")
        if unknown := sorted(set(values) - set(_field_names())):
            fields = ", ".join(sorted(_field_names()))
            raise ValueError(f"{_SHORT.repr(unknown[0])} is no field of a FastViTConfig; the fields are {fields}")
        required = ("depths", "widths", "mlp_ratios", "mixers")
        if missing := [name for name in required if name not in values]:
            raise ValueError(f"the configuration lacks {', '.join(missing)}")
        try:
            return _made(json.dumps(values))
        except TypeError:  # numpy's numbers and the like
            return cls(**values)
        except RecursionError:
            raise ValueError("the configuration is nested too deeply; expected numbers, words and lists") from None

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> FastViTConfig:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON configuration: {error}") from None
        return cls.from_dict(values)

    def key(self) -> str:
        """Stable hash of the deployed architecture, 16 hex digits; equal configurations share it."""
        found: str | None = self.__dict__.get("_key")
        if found is None:
            values = {k: v for k, v in self.to_dict().items() if k not in _TRAINING_ONLY}
            canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
            found = hashlib.sha256(canonical.encode()).hexdigest()[:16]
            object.__setattr__(self, "_key", found)  # a search asks for it thousands of times
        return found

    def describe(self) -> str:
        """The configuration in words, without what is as in every published preset."""
        def joined(values: Sequence[Any]) -> str:
            return "-".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)

        def short(values: Sequence[Any]) -> str:
            return f"{values[0]:g}" if len(set(values)) == 1 else joined(values)

        words = [f"depths {joined(self.depths)}", f"widths {joined(self.widths)}",
                 f"ratio {short(self.mlp_ratios)}",
                 "mixers " + "".join({"repmixer": "R", "attention": "A", "pool": "P", "convmixer": "C"}[m]
                                     for m in self.mixers)]
        for label, values, usual in (("mixer kernel", self.mixer_kernels, (3,) * self.stages),
                                     ("FFN kernel", self.ffn_kernels, (7,) * self.stages),
                                     ("patch kernel", self.patch_kernels, (7,) * (self.stages - 1))):
            if values != usual:
                words.append(f"{label} {short(values)}")
        if self.stem_stride != 4:
            words.append(f"stem stride {self.stem_stride}")
        if any(self.patch_se):
            words.append("SE before stage " + ", ".join(str(i + 2) for i, se in enumerate(self.patch_se) if se))
        if self.patch_act:
            words.append("GELU in patch embeddings")
        if self.attention_norm != "batch":
            words.append("LayerNorm before attention")
        return ", ".join(words)


@cache
def _field_names() -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(FastViTConfig))


@lru_cache(maxsize=16384)
def _made(text: str) -> FastViTConfig:
    """Validated once, however often a run's trials are read."""
    return FastViTConfig(**json.loads(text))
