"""`search.py train`: a variant trained for real on the user's images, its folder updated with the result."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.commands.data_words import add_data

if TYPE_CHECKING:
    from fastvit.config import FastViTConfig
    from nas.train.loop import Job

FORMS = ("published", "lean")
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train", help="train a variant on your images", allow_abbrev=False,
        description="Train a variant with the paper's recipe (docs/training.md) and update its folder with the "
                    "weights, their accuracy and every format. A preset or a configuration file becomes a variant "
                    "first, with --name.")
    parser.add_argument("variant", metavar="VARIANT", help="an exported variant; or a preset, a file or a RUN with "
                                                           "--name")
    add_data(parser, "image folder (train/ and val/, or one folder a class), digits, shapes or builtin")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the images (default 300)")
    parser.add_argument("--batch-size", type=int, metavar="N",
                        help="images of a step, over all devices (default 1024, less for small data sets)")
    parser.add_argument("--lr", type=float, help="peak learning rate (default 1e-3 at 1024 images a step)")
    parser.add_argument("--resolution", type=int, metavar="PX", help="input size (default: the variant's)")
    parser.add_argument("--fine-tune", action="store_true",
                        help="the paper's fine-tuning: 30 epochs at 384 px with lr 5e-6, from the variant's weights")
    parser.add_argument("--form", choices=FORMS,
                        help="of a preset, file or trial that becomes a variant: published (the over-parameterized "
                             "branches, fused at the end; default) or lean (one convolution in their place: more "
                             "images a second)")
    parser.add_argument("--teacher", metavar="timm:NAME|FOLDER",
                        help="learn from this network too")
    parser.add_argument("--distill", choices=("hard", "soft", "features"),
                        help="what of the teacher is learned: its label (default), its soft output, or that and the "
                             "features of its stages")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                        help="any other part of the recipe, such as mixup=0.2 or clip_grad=5")
    parser.add_argument("--devices", default="1", metavar="N", help="processes or GPUs, or auto (default 1)")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), help="default bf16 on a GPU that has it, else fp32")
    parser.add_argument("--accumulate", type=int, default=1, metavar="N", help="parts of a batch, to save memory")
    parser.add_argument("--workers", type=int, metavar="N",
                        help="processes that load images, a device (default: none beside a CPU, up to 8 beside a GPU)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of order, augmentation and split (default 42)")
    parser.add_argument("--resume", action="store_true", help="go on where a killed training was")
    parser.add_argument("--work", metavar="DIR", help="folder of checkpoint and logs (default VARIANT.training)")
    parser.add_argument("--checkpoint-minutes", type=float, default=10, metavar="M",
                        help="at most so much is lost by a kill (default 10; also after every epoch)")
    parser.add_argument("--name", help="name of the variant that a preset, file or trial becomes")
    parser.add_argument("--to", default="exports", metavar="DIR", help="where its folder is made (default exports/)")
    parser.add_argument("--trial", type=int, metavar="N", help="the trial of a RUN")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.train:train")


def train(args: argparse.Namespace) -> int:
    from nas.data.layout import data_of
    from nas.errors import NotAvailable
    from nas.export.formats import lacks
    from nas.train.finish import finish

    if why := lacks("lightning_fabric", "pip install -e '.[train]'"):
        raise NotAvailable(f"train {why}")
    args.data = data_of(args.data, args.train_dir, args.val_dir)
    folder = _folder(args)
    work = Path(args.work) if args.work else folder.with_name(f"{folder.name}.training")
    with _alone(work):
        job, devices = _resumed(args, work) if args.resume else _begun(args, folder, work)
        fabric, hardware = _fabric(devices, args.precision or _stored(work, "precision"))
        again = f"python search.py train {folder} --resume" + (f" --work {args.work}" if args.work else "")
        if (code := _trained(fabric, job, again)) is not None:
            return code
        made, found = finish(folder, job, hardware, device=fabric.device.type)
    accuracy = {form: found[form] for form in ("fused", "unfused")}
    if args.json:
        print(json.dumps({"folder": str(made.folder), "accuracy": accuracy, "failed": made.failed, "work": str(work)}))
    else:
        for form, values in accuracy.items():
            print(f"{form:<8} top-1 {values['top1']:6.2f} %  top-5 {values['top5']:6.2f} %  "
                  f"calibration error {values['ece']:.3f}  on {values['images']} images")
        print(made.folder)
    return 1 if made.failed else 0


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the work folder; the lock goes with the process, however it ends."""
    from filelock import FileLock, Timeout

    from nas.errors import UsageError

    lock = FileLock(work.with_name(f".{work.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{work} is in use by another training; wait for it, or name another --work") from None
    except OSError as error:
        raise UsageError(f"{work.parent} cannot be written ({error.strerror}); name another --work") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _folder(args: argparse.Namespace) -> Path:
    """The variant's folder; one that a preset, file or trial is to become may not be there yet."""
    from nas.errors import UsageError
    from nas.export.folder import destination
    from nas.export.variant import SHEET

    path = Path(args.variant)
    if (path / SHEET).is_file():
        if args.name is not None or args.trial is not None:
            raise UsageError(f"--name and --trial: {path} is a variant already")
        return path
    if args.name is None:
        raise UsageError(f"{args.variant} is no exported variant; give --name, and it becomes one first")
    if args.resume:
        return Path(args.to) / args.name
    return destination(args.name, args.to)


def _recipe(args: argparse.Namespace, resolution: int) -> dict[str, Any]:
    """What of the recipe the user gave."""
    from nas.recipe import parse_setting

    given = dict(parse_setting(text) for text in args.settings)
    for name in ("epochs", "batch_size", "lr", "resolution", "seed", "distill"):
        if (value := getattr(args, name)) is not None:
            given[name] = value
    if not args.fine_tune:
        given.setdefault("resolution", resolution)
    return given


def _begun(args: argparse.Namespace, folder: Path, work: Path) -> tuple[Job, int]:
    """A new training's job, after everything was checked, and its devices."""
    from dataclasses import asdict

    from nas.data import absolute
    from nas.data.pictures import open_images
    from nas.errors import UsageError
    from nas.export.variant import find, read_sheet
    from nas.files import write_json
    from nas.recipe import Recipe, recipe_for
    from nas.train.data import Batches
    from nas.train.loop import CHECKPOINT, JOB, Job

    if args.data is None:
        raise UsageError("--data is missing: an image folder, digits, shapes or builtin")
    if (work / CHECKPOINT).exists():
        raise UsageError(f"{work} holds a training that has not ended: go on with --resume, or name another --work")
    for name, low in (("accumulate", 1), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < low:
            raise UsageError(f"--{name} {value}: expected at least {low}")
    source = find(args.variant, args.trial)
    given = _recipe(args, source.resolution)
    seed = given.get("seed", Recipe.seed)
    data = open_images(args.data, given.get("resolution", 384), seed)
    for line in data.lines:
        print(line, file=sys.stderr)
    images = Batches(len(data.train), Recipe(**{k: v for k, v in given.items() if k == "epoch_images"}),
                     len(data.train) > 1 << 20).epoch_images
    recipe = recipe_for(data.task, images, given, fine_tune=args.fine_tune)
    devices = _devices(args.devices)
    parts = devices * args.accumulate * (2 if recipe.mixup or recipe.cutmix else 1)
    if recipe.batch_size % parts:
        raise UsageError(f"--batch-size {recipe.batch_size}: expected a multiple of {parts} (devices x accumulated "
                         "parts" + (", and mixing pairs images)" if recipe.mixup or recipe.cutmix else ")"))
    if recipe.batch_size > images:
        raise UsageError(f"--batch-size {recipe.batch_size}: {args.data} has {images} images for training")
    if not folder.exists():
        _export(args, folder, recipe.resolution, data.class_names)
    sheet = read_sheet(folder)
    _check_form(args.form, sheet["config"], str(folder))
    work.mkdir(parents=True, exist_ok=True)
    start = str((folder / "model.safetensors").resolve())
    job = Job(sheet["name"], sheet["config"], start, len(data.class_names), source.mean, source.std,
              absolute(args.data), recipe.to_dict(),
              str(work), _teacher(args.teacher), args.accumulate, _workers(args.workers, devices),
              args.checkpoint_minutes)
    write_json(work / JOB, {"job": asdict(job), "devices": devices, "precision": args.precision})
    print(f"{sheet['name']}: {len(data.class_names)} classes, {images} images an epoch, "
          f"{recipe.epochs} epochs of {images // recipe.batch_size} steps with {recipe.batch_size} images at "
          f"{recipe.resolution} px, lr {recipe.lr:.3g}, from weights: {sheet['weights']}", file=sys.stderr)
    return job, devices


def _workers(given: int | None, devices: int) -> int:
    """Processes that load images for each device. Beside a CPU they would only share it with the training: images that
    are decoded already take a millisecond to augment."""
    import torch

    if given is not None:
        return given
    return min(8, max(1, (os.cpu_count() or 1) // devices - 1)) if torch.cuda.is_available() else 0


def _in_form(form: str | None, config: FastViTConfig) -> FastViTConfig:
    """A configuration with the branches of the form that is asked for, if any is."""
    if form is None:
        return config
    return config.replace(branches=0 if form == "lean" else max(1, config.branches))


def _check_form(form: str | None, config: dict[str, Any], what: str) -> None:
    """Refuse a form that trained weights do not have."""
    from fastvit.config import FastViTConfig
    from nas.errors import UsageError

    there = FORMS[FastViTConfig.from_dict(config).branches == 0]
    if form is not None and form != there:
        raise UsageError(f"--form {form}: {what} is in the {there} form; leave --form out, or make another variant of "
                         "the preset, file or trial with --name")


def _teacher(spec: str | None) -> str | None:
    return spec if spec is None or spec.startswith("timm:") else str(Path(spec).resolve())


def _export(args: argparse.Namespace, folder: Path, resolution: int, names: tuple[str, ...]) -> None:
    """The folder that is to be trained: with the weights that a run trained of the trial, or else random ones."""
    from nas.export.folder import export
    from nas.export.variant import Variant, find
    from nas.export.weights import load_weights, random_model

    source = find(args.variant, args.trial)
    latency = source.latency if source.resolution == resolution else None
    if source.weights is not None:
        model, _ = load_weights(source.weights, source.config, len(names))
        variant = Variant(args.name, source.config, model.eval(), resolution, names, source.weights_are,
                          dict(source.provenance), latency, mean=source.mean, std=source.std)
    else:
        config = _in_form(args.form, source.config)
        variant = Variant(args.name, config, random_model(config, len(names)), resolution, names,
                          provenance=dict(source.provenance) | {"weights_seed": 0}, latency=latency)
    export(variant, folder.parent, ["timm", "onnx"])


def _stored(work: Path, key: str) -> Any:
    from nas.train.loop import JOB

    return json.loads((work / JOB).read_text()).get(key)


def _resumed(args: argparse.Namespace, work: Path) -> tuple[Job, int]:
    """The job that a killed training left."""
    from nas.errors import UsageError
    from nas.train.loop import JOB, Job

    try:
        stored = json.loads((work / JOB).read_text(encoding="utf-8"))
        job = Job(**stored["job"] | {"mean": tuple(stored["job"]["mean"]), "std": tuple(stored["job"]["std"]),
                                     "work": str(work), "workers": args.workers or stored["job"]["workers"]})
    except FileNotFoundError:
        raise UsageError(f"--resume: {work} holds no training; leave --resume out, or name its folder with "
                         "--work") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{work / JOB} cannot be read: {error}") from None
    given = _recipe(args, job.recipe["resolution"]) | ({"data": args.data} if args.data else {})
    _check_form(args.form, job.config, f"the training in {work}")
    before = job.recipe | {"data": job.data}
    for key, value in given.items():
        same = list(value) if isinstance(value, tuple) else value
        if same != before[key] and key != "data":
            raise UsageError(f"--resume: the training in {work} has {key} = {before[key]}, not {value}; leave it out, "
                             "or start another with another --work")
    return job, _devices(args.devices) if args.devices != "1" else stored["devices"]


def _devices(text: str) -> int:
    import torch

    from nas.errors import UsageError

    there = torch.cuda.device_count()
    if text == "auto":
        return max(1, there)
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--devices {text}: expected a number of at least 1, or auto")
    if there and int(text) > there:
        raise UsageError(f"--devices {text}: there are {there} GPUs")
    return int(text)


def _fabric(devices: int, precision: str | None) -> tuple[Any, dict[str, Any]]:
    """Lightning Fabric for the devices, and what the card says of them."""
    import logging
    import platform
    import warnings

    import torch
    from lightning_fabric import Fabric

    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    cuda = torch.cuda.is_available()
    precision = precision or ("bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32")
    fabric = Fabric(accelerator="cuda" if cuda else "cpu", devices=devices, precision=PRECISIONS[precision],
                    strategy="auto" if devices == 1 else "ddp_spawn")
    what = torch.cuda.get_device_name() if cuda else platform.machine()
    return fabric, {"devices": f"{devices} x {what}", "precision": precision}


def _trained(fabric: Any, job: Job, again: str) -> int | None:
    """Train to the end; an exit code when that was cut short."""
    from dataclasses import asdict

    from torch.multiprocessing import ProcessRaisedException

    from nas.errors import Failure
    from nas.train.loop import Stopped
    from nas.train.loop import train as run

    try:
        fabric.launch(run, asdict(job))
    except Stopped as stopped:
        print(f"\nstopped, with a checkpoint; go on with:  {again}", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print(f"\nstopped; go on from the last checkpoint with:  {again}", file=sys.stderr)
        return 130
    except ProcessRaisedException as error:
        raise Failure(f"a process failed: {str(error).strip().splitlines()[-1]}") from None
    return None
