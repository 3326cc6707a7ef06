"""What is exported: a configuration with weights, and where both come from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig
from fastvit.presets import named_config
from nas.errors import UsageError
from nas.search.confirmed import search_trials
from nas.search.front import front_of

if TYPE_CHECKING:
    from fastvit.model import FastViT
    from nas.export.loss import Judged
    from nas.recipe import Recipe
    from nas.runs.meta import RunMeta
    from nas.runs.run import Run, Trial
    from nas.runs.trained import Trained

NAME = re.compile(r"[a-z][a-z0-9_]{2,40}")
SHEET = "fastvit.json"  # our own description of a variant, beside timm's config.json
HALVES = (0.5, 0.5, 0.5)  # mean and deviation of images scaled to [-1, 1], as networks see them in a search
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RANDOM_WEIGHTS = "none: random initialisation, for structure and latency only; predictions mean nothing"


@dataclass(frozen=True)
class Source:
    """Where a configuration comes from. `origin` says it in a word; the rest is known for trials of a run."""

    name: str
    config: FastViTConfig
    origin: str
    resolution: int = 256
    num_classes: int = 1000
    class_names: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] | None = None
    weights: Path | None = None
    weights_are: str = ""  # what those weights are, in one sentence
    accuracy: dict[str, Any] | None = None
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


@dataclass(frozen=True)
class Options:
    """How formats are written; each format reads what concerns it.

    `calibration`: normalised images (N, 3, H, W) in float32 for quantization, drawn by who asks for it. `judged`:
    others, which say what int8 costs; `max_loss`: the points of top-1 beyond which such a file is refused.
    """

    dynamic_batch: bool = False
    image_input: bool = False
    int8: bool = False
    palettize: bool = False
    calibration: Any = None
    judged: Judged | None = None
    max_loss: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What a later export of the same variant needs to know."""
        return {name: getattr(self, name) for name in ("dynamic_batch", "image_input", "int8", "palettize",
                                                         "max_loss")}


@dataclass
class Variant:
    """A named network on its way into a folder.

    Attributes:
        model: train-form weights in eval mode.
        resolution: side of the square input, in pixels.
        weights: one sentence on what the weights are.
        mean, std: how an image in [0, 1] is normalised before it enters.
        recipe: how it was trained; None: the paper's, to train it with.
        extra: further text files for the folder, by name.
    """

    name: str
    config: FastViTConfig
    model: FastViT
    resolution: int
    class_names: tuple[str, ...] = ()
    weights: str = RANDOM_WEIGHTS
    provenance: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None
    options: Options = Options()
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    recipe: Recipe | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return self.model.num_classes

    @cached_property
    def fused(self) -> FastViT:
        """The deployed form of `model`."""
        from fastvit.fuse import reparameterize

        return reparameterize(self.model)


def check_name(name: str) -> None:
    """Refuse what cannot be a folder, a module and a timm model at once."""
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name}: expected 3 to 41 small letters, digits or underscores, the first a letter, "
                         "such as fastvit_x2")


def read_sheet(folder: Path) -> dict[str, Any]:
    """fastvit.json of a variant's folder.

    Raises:
        UsageError: the folder holds none that can be read.
    """
    try:
        sheet = json.loads((folder / SHEET).read_text(encoding="utf-8"))
        FastViTConfig.from_dict(sheet["config"])
    except FileNotFoundError:
        raise UsageError(f"{folder} is no exported variant: it has no {SHEET}; make one with "
                         "`search.py export`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / SHEET} cannot be read: {error}") from None
    return sheet  # type: ignore[no-any-return]


def find(text: str, trial: int | None = None) -> Source:
    """The configuration that a word names: a run and its trial, a variant's folder, a preset or a file.

    Raises:
        UsageError: a run without --trial, a trial that is not there, or --trial beside something else.
        ValueError: neither a preset nor a file.
    """
    path = Path(text)
    if (path / "run.json").is_file():
        return _of_trial(path, trial)
    if trial is not None:
        raise UsageError(f"--trial {trial}: {text} is no run; leave --trial out, or name a run's folder")
    if path.is_dir():
        sheet = read_sheet(path)
        return Source(sheet["name"], FastViTConfig.from_dict(sheet["config"]), f"variant {sheet['name']}",
                      sheet["resolution"], sheet["num_classes"], tuple(sheet.get("class_names", ())),
                      {"variant": sheet["name"]} | sheet.get("provenance", {}), sheet.get("latency"),
                      path / "model.safetensors", sheet["weights"], None,
                      tuple(sheet.get("mean", MEAN)), tuple(sheet.get("std", STD)))
    name, config = named_config(text)
    return Source(name, config, "file" if path.is_file() else "preset", provenance={"source": name})


def _of_trial(path: Path, trial: int | None) -> Source:
    from nas.data import DRAWN
    from nas.runs.run import Run

    run = Run.open(path)
    records = {record.trial: record for record in search_trials(run) if record.config}
    if trial is None:
        points = ", ".join(str(record.trial) for record in front_of(list(records.values()), run.meta.budget_ms)[-8:])
        raise UsageError(f"{path} is a run: name one of its trials with --trial"
                         + (f"; its front has the trials {points}" if points else ""))
    if trial not in records:
        raise UsageError(f"--trial {trial}: {path} has no such trial with a configuration; it has "
                         f"{min(records, default=0)} to {max(records, default=0)}")
    record, meta = records[trial], run.meta
    own_images = meta.task not in DRAWN  # a head for the built-in classes is of no use to anybody
    found = {"run": meta.id, "trial": trial, "seed": meta.seed, "task": meta.task,
             "task_fingerprint": meta.task_fingerprint, "score_run": record.score,
             **{key: record.row()[key] for key in ("score", "score_sd", "score_from")},
             "proxy_steps": record.scores[-1].step if record.scores else None, "preset": record.preset,
             "run_versions": meta.versions} | _decided(run, record)
    source = Source(record.preset or f"trial{trial}", record.architecture, "trial",
                    meta.resolution, meta.num_classes if own_images else 1000,
                    _class_names(meta) if own_images else (), found, record.latency_json())
    return source if record.trained is None else _trained(path, source, trial, record.trained, meta.task)


def _trained(path: Path, source: Source, trial: int, trained: Trained, data: str) -> Source:
    """`source` with the weights that the run trained at full width, which are those of the lean form."""
    from nas.proxy.full_recipe import FullRecipe, lean
    from nas.proxy.keep import full_weights_path

    file, recipe, name = full_weights_path(path, trial), FullRecipe.from_dict(trained.recipe), Path(data).name
    low, high = trained.interval()
    small = "" if trained.pixels == trained.resolution else f", most of them at {trained.pixels} px"
    words = (f"trained in the search on {name}: {trained.trained_images:,} images at {trained.resolution} px{small}, "
             f"from {trained.started_from}; top-1 {100 * trained.top1:.1f} % [{100 * low:.1f}, {100 * high:.1f}] on "
             f"{trained.held_out}")
    accuracy = {"data": name, "images": trained.images, "top1": 100 * trained.top1,
                "interval": [100 * low, 100 * high], "held_out": trained.held_out}
    config = lean(source.config, recipe).replace(drop_path=source.config.drop_path)  # for whoever trains on
    return replace(source, config=config, weights=file, weights_are=words, accuracy=accuracy,
                   mean=HALVES, std=HALVES, provenance=source.provenance | {"trained_in_search": trained.to_dict()})


def _decided(run: Run, record: Trial) -> dict[str, Any]:
    """How a trial stands to its run's recommendation and to a preset, and the reader's note."""
    from nas.report.recommendation import LARGEST, delta, recommend, reference, standing
    from nas.runs.marks import NONE, read_marks

    records, meta = search_trials(run), run.meta
    found = recommend(records, meta.budget_ms, resolution=meta.resolution, num_classes=meta.num_classes)
    base = reference(records, meta.budget_ms, record, LARGEST)
    measured = record.origin == "measured" and record.latency is not None and record.config is not None
    return {"standing": standing(found, record), "note": read_marks(run.attrs()).get(record.trial, NONE).note or None,
            "beside": delta(record, base).words if measured and base is not None and base is not record else None}


def _class_names(meta: RunMeta) -> tuple[str, ...]:
    """The classes of a run's image folder, where it is still there and still has as many."""
    from nas.data.folder import open_folder

    try:
        names = open_folder(meta.task, meta.seed).class_names
    except (OSError, UsageError):
        return ()
    return names if len(names) == meta.num_classes else ()
