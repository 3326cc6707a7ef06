"""How a network is trained: the paper's recipe (Vasu et al., ICCV 2023, section 4.1) in the words of timm's script."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import UsageError

PAPER_BATCH = 1024
DISTILL = ("hard", "soft", "features")


def taught_words(distill: str) -> str:
    """What is learned from a teacher, for cards."""
    return {"hard": "the teacher's label", "soft": "the teacher's soft output",
            "features": "the teacher's soft output, and the features of its stages come on top"}[distill]


@dataclass(frozen=True)
class Recipe:
    """One way to train. Names and meanings are those of timm's train script, except where a comment says more."""

    epochs: int = 300
    batch_size: int = PAPER_BATCH  # over all devices and accumulated parts, where timm's is that of one device
    resolution: int = 256
    opt: str = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    sched: str = "cosine"
    warmup_epochs: int = 5
    warmup_lr: float = 1e-6
    clip_grad: float | None = None  # the paper clips nothing
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    aa: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4  # without aa only
    reprob: float = 0.25
    remode: str = "pixel"
    mixup: float = 0.8
    cutmix: float = 1.0
    mixup_prob: float = 1.0
    smoothing: float = 0.1
    drop_path: float | None = None  # None: the configuration's
    model_ema_decay: float = 0.9995
    crop_pct: float = 0.9
    interpolation: str = "bicubic"
    distill: str = "hard"  # with a teacher: its label (hard, as published), its soft output, or features of stages too
    epoch_images: int = 0  # images of an epoch; 0: all, or DRAWN_EPOCH where a task draws images without end
    seed: int = 42

    def __post_init__(self) -> None:
        rules = {"epochs": self.epochs >= 1, "batch_size": self.batch_size >= 2, "resolution": self.resolution >= 32,
                 "lr": self.lr > 0, "min_lr": self.min_lr >= 0, "weight_decay": self.weight_decay >= 0,
                 "warmup_epochs": 0 <= self.warmup_epochs <= self.epochs, "mixup": self.mixup >= 0,
                 "cutmix": self.cutmix >= 0, "smoothing": 0 <= self.smoothing < 1, "reprob": 0 <= self.reprob <= 1,
                 "mixup_prob": 0 <= self.mixup_prob <= 1, "hflip": 0 <= self.hflip <= 1,
                 "model_ema_decay": 0 <= self.model_ema_decay < 1, "crop_pct": 0 < self.crop_pct <= 1,
                 "scale": 0 < self.scale[0] <= self.scale[1] <= 1, "epoch_images": self.epoch_images >= 0,
                 "distill": self.distill in DISTILL}
        for name, holds in rules.items():
            value = getattr(self, name)
            if not holds or (isinstance(value, float) and not math.isfinite(value)):
                raise UsageError(f"{name} = {value}: no recipe can be trained with that; docs/training.md lists what "
                                 "each value may be")

    def replace(self, **changes: Any) -> Recipe:
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


DRAWN_EPOCH = 8192
# What section 4.1 changes for 384 px.
FINE_TUNE: dict[str, Any] = {"epochs": 30, "lr": 5e-6, "min_lr": 0.0, "weight_decay": 1e-8, "warmup_epochs": 0,
                             "resolution": 384}
# Tasks that come with the project: a digit mirrored or cropped to a stroke is another digit or none, and the
# class of a scene is a matter of its colours.
_TASKS: dict[str, dict[str, Any]] = {
    "digits": {"hflip": 0.0, "scale": (0.7, 1.0), "aa": None, "color_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0,
               "reprob": 0.0, "crop_pct": 1.0},
    "builtin": {"hflip": 0.0, "scale": (0.8, 1.0), "aa": None, "color_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0,
                "reprob": 0.0, "crop_pct": 1.0},
    "shapes": {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "aa": None, "color_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0,
                "reprob": 0.0, "crop_pct": 1.0},
}


def recipe_for(task: str, images: int, given: Mapping[str, Any], *, fine_tune: bool = False) -> Recipe:
    """The paper's recipe for a data set of `images` images, with what the user gave.

    A small data set gets a smaller batch (a 32nd of it, as a power of two between 16 and 1024), and a batch
    that is not the paper's a learning rate scaled by the square root, as AdamW wants it. A short run gets a
    shorter warm-up and an average (EMA) over a fifth of its steps at most.
    """
    values: dict[str, Any] = dict(_TASKS.get(task, {})) | (FINE_TUNE if fine_tune else {}) | dict(given)
    length = values.get("epoch_images") or images
    if "batch_size" not in values:
        values["batch_size"] = min(PAPER_BATCH, max(16, 2 ** int(math.log2(max(1, length // 32)))))
    base = Recipe(**{k: v for k, v in values.items() if k in ("epochs", "batch_size", "lr")} | {"warmup_epochs": 0})
    if "lr" not in given:
        values["lr"] = base.lr * math.sqrt(base.batch_size / PAPER_BATCH)
    values.setdefault("warmup_epochs", min(5, base.epochs // 10 if base.epochs >= 10 else int(base.epochs > 2)))
    values.setdefault("min_lr", min(Recipe.min_lr, values["lr"] / 100))
    steps = max(1, base.epochs * (length // base.batch_size))
    values.setdefault("model_ema_decay", round(max(0.0, min(Recipe.model_ema_decay, 1 - 5 / steps)), 6))
    return Recipe(**values)


def parse_setting(text: str) -> tuple[str, Any]:
    """"KEY=VALUE" of --set as a field of Recipe and its value.

    Raises:
        UsageError: no such field, or not its type.
    """
    import yaml

    name, equals, value = text.partition("=")
    fields = {f.name: f for f in dataclasses.fields(Recipe)}
    if not equals or name not in fields:
        raise UsageError(f"--set {text}: expected KEY=VALUE with a KEY out of {', '.join(fields)}")
    kind = str(fields[name].type)
    if value.lower() in ("none", "") and "None" in kind:
        return name, None
    try:
        if kind.startswith("tuple"):
            low, high = (float(part) for part in value.strip("[]()").split(","))
            return name, (low, high)
        if kind.startswith("str"):
            return name, value
        found = float(yaml.safe_load(value))
    except (TypeError, ValueError, yaml.YAMLError):
        raise UsageError(f"--set {text}: {name} must be {kind.replace(' | None', ' or none')}") from None
    if kind == "int":
        if found != int(found):
            raise UsageError(f"--set {text}: {name} must be a whole number")
        return name, int(found)
    return name, found
