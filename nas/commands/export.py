"""`search.py export | verify`: a variant as a folder that other tools load, and the proof that it is whole."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastvit.config import FastViTConfig
    from fastvit.model import FastViT
    from nas.export.loss import Judged
    from nas.export.variant import Options, Source, Variant

DEFAULT_FORMATS = "timm,onnx"
CALIBRATION = 128  # images
JUDGED = 256  # further images of the same folder, to see what int8 changes
MOST_JUDGED = 2048


def register(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export", help="write a variant's folder", allow_abbrev=False,
        description="Write DIR/NAME: weights for timm, ONNX and other formats, a card, parity figures, checksums.")
    export.add_argument("source", metavar="RUN|PRESET|CONFIG|FOLDER",
                        help="a run (with --trial), a preset, a configuration file, or an exported variant")
    export.add_argument("--trial", type=int, metavar="N", help="the trial of the run")
    export.add_argument("--name", required=True, help="name of the variant: small letters, digits, underscores")
    export.add_argument("--to", default="exports", metavar="DIR", help="where its folder is made (default exports/)")
    export.add_argument("--resolution", type=int, metavar="PX", help="input size (default: the run's, or 256)")
    export.add_argument("--formats", default=DEFAULT_FORMATS, metavar="A,B",
                        help=f"what to write besides timm's files (default {DEFAULT_FORMATS})")
    export.add_argument("--dynamic-batch", action="store_true", help="ONNX and OpenVINO files of any batch size")
    export.add_argument("--image-input", action="store_true", help="Core ML takes an RGB image, normalisation inside")
    export.add_argument("--int8", action="store_true", help="also int8: Core ML weights, ONNX with --calibration")
    export.add_argument("--palettize", action="store_true", help="also a Core ML package with 6-bit palettes")
    export.add_argument("--calibration", metavar="DIR", help="images for int8: a folder, digits or builtin")
    export.add_argument("--judge", metavar="DIR",
                        help="labelled images that tell what int8 loses: val/ or one folder a class (default: how many "
                             "decisions change on images of --calibration that calibrated nothing)")
    export.add_argument("--max-loss", type=float, metavar="POINTS",
                        help="refuse an int8 file that loses more points of top-1 (default: warn beyond 1)")
    weights = export.add_mutually_exclusive_group()
    weights.add_argument("--weights", metavar="FILE|proxy",
                         help="unfused weights of ours, timm's or Apple's names; proxy: the trial's small network "
                              "itself, as it was trained in the run")
    weights.add_argument("--inherit", metavar="FILE|FOLDER",
                         help="slice a larger network's unfused weights: a file (needs --base), or a variant's folder")
    export.add_argument("--base", metavar="PRESET", help="the network of --inherit: a preset or configuration file")
    export.add_argument("--device", help="measure the latency there for the card (`search.py devices`; default: what "
                                         "the run measured, or nothing)")
    export.add_argument("--num-classes", type=int, metavar="N", help="outputs (default: the weights', or 1000)")
    export.add_argument("--class-names", metavar="FILE", help="one class name a line")
    export.add_argument("--seed", type=int, default=0, help="seed of random weights (default 0)")
    export.add_argument("--json", action="store_true", help="one JSON document")
    export.set_defaults(handler="nas.commands.export:export")

    verify = commands.add_parser("verify", help="check an exported folder", allow_abbrev=False,
                                 description="Check the sums, load each format that loads here, compare outputs.")
    verify.add_argument("folder", metavar="FOLDER", help="an exported variant")
    verify.add_argument("--json", action="store_true", help="one JSON document")
    verify.set_defaults(handler="nas.commands.export:verify")


def _class_names(args: argparse.Namespace, source: Source) -> tuple[str, ...]:
    import unicodedata
    from pathlib import Path

    from nas.errors import UsageError

    if args.class_names is None:
        return source.class_names
    try:
        # utf-8-sig: the byte-order mark that some editors write is no part of the first name.
        lines = Path(args.class_names).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--class-names {args.class_names}: cannot be read ({reason}); expected a text file in UTF-8 "
                         "with one name a line") from None
    names = tuple(unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip())
    if not names:
        raise UsageError(f"--class-names {args.class_names}: it holds no names; expected one a line")
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--class-names {args.class_names}: the name {doubled!r} is there {names.count(doubled)} "
                         "times; names tell the classes apart, so each must be there once")
    return names


def _sliced(args: argparse.Namespace, config: FastViTConfig, classes: int | None,
            resolution: int) -> tuple[FastViT, str]:
    """The variant's network with a larger one's weights, and the sentence about them."""
    from pathlib import Path

    import torch

    from fastvit.config import FastViTConfig
    from fastvit.inherit import inherit
    from fastvit.presets import named_config
    from nas.export.images import calibration_images
    from nas.export.variant import read_sheet
    from nas.export.weights import calibrate, load_weights

    path = Path(args.inherit)
    if path.is_dir():
        sheet = read_sheet(path)
        name, large, path = sheet["name"], FastViTConfig.from_dict(sheet["config"]), path / "model.safetensors"
    else:
        name, large = named_config(args.base)
    whole, _ = load_weights(path, large)
    model, share = inherit(whole.state_dict(), large, config, classes or whole.num_classes)
    seen = args.calibration or "builtin"
    calibrate(model, torch.from_numpy(calibration_images(seen, resolution)).split(16))
    words = (f"{100 * share:.0f} % sliced from {name} ({path.name}), BatchNorm statistics from images of "
             f"{seen}: a start for training, not a trained network")
    print(words, file=sys.stderr)
    return model, words


def build(args: argparse.Namespace) -> Variant:
    """The variant that the command's words describe."""
    from pathlib import Path

    from nas.errors import UsageError
    from nas.export.variant import RANDOM_WEIGHTS, Variant, find
    from nas.export.weights import load_weights, random_model

    source = find(args.source, args.trial)
    if args.weights == "proxy":
        return _proxy(args, source)
    resolution = args.resolution or source.resolution
    if resolution < 32:
        raise UsageError(f"--resolution {resolution}: expected at least 32 pixels")
    if args.num_classes is not None and args.num_classes < 1:
        raise UsageError(f"--num-classes {args.num_classes}: expected at least 1")
    names = _class_names(args, source)
    path = Path(args.weights) if args.weights else source.weights
    # Names alone never change how many classes trained weights have: that would start a new classifier unasked.
    fresh = args.class_names and (path is None or args.inherit is not None)
    classes = args.num_classes or (len(names) if fresh else None)
    provenance = dict(source.provenance)
    folder = args.inherit is not None and Path(args.inherit).is_dir()
    if folder and args.base is not None:
        raise UsageError(f"--base {args.base}: {args.inherit} is a variant's folder, which says that itself")
    if not folder and (args.inherit is None) != (args.base is None):
        raise UsageError("--inherit and --base go together: the larger network's weights, and which network it is")
    if args.inherit is not None:
        model, weights = _sliced(args, source.config, classes, resolution)
        provenance |= {"inherited_from": args.base or Path(args.inherit).name,
                       "inherited_file": Path(args.inherit).name}
    elif path is None:
        model, weights = random_model(source.config, classes or source.num_classes, args.seed), RANDOM_WEIGHTS
        provenance["weights_seed"] = args.seed
    else:
        model, by = load_weights(path, source.config, classes)
        if source.weights is not None and not args.weights:
            weights = source.weights_are
        else:
            weights = f"from the file {path.name} (names of {by}), trained by whoever made it"
            provenance["weights_file"] = path.name
    if names and len(names) != model.num_classes:
        if args.class_names:
            raise UsageError(f"--class-names {args.class_names}: {len(names)} names for {model.num_classes} classes; "
                             "expected one a line for each class, in the order of the network's outputs")
        names = ()
    latency, accuracy = source.latency, source.accuracy
    if path != source.weights or args.inherit is not None or classes not in (None, source.num_classes):
        provenance.pop("trained_in_search", None)
        accuracy = None
    if args.device is not None:
        from nas.latency import measure

        latency = measure(source.config, args.device, resolution=resolution).to_dict()
    return Variant(args.name, source.config, model.eval(), resolution, names, weights, provenance, latency, accuracy,
                   options=_options(args, resolution, source.mean, source.std, names, model.num_classes),
                   mean=source.mean, std=source.std)


def _options(args: argparse.Namespace, resolution: int, mean: Sequence[float], std: Sequence[float],
             names: tuple[str, ...], classes: int) -> Options:
    from nas.export.images import calibration_images
    from nas.export.loss import Judged
    from nas.export.variant import Options

    images, judged = None, None
    if args.calibration:
        every = calibration_images(args.calibration, resolution, limit=CALIBRATION + JUDGED, mean=mean, std=std)
        # The rest judges; of few images a fifth.
        kept = CALIBRATION if len(every) > CALIBRATION + JUDGED // 4 else max(1, len(every) * 4 // 5)
        images, judged = every[:kept], Judged(every[kept:]) if len(every) > kept else None
    if args.judge:
        judged = _labelled(args.judge, resolution, mean, std, names, classes)
    return Options(args.dynamic_batch, args.image_input, args.int8, args.palettize, images, judged, args.max_loss)


def _labelled(source: str, resolution: int, mean: Sequence[float], std: Sequence[float], names: tuple[str, ...],
              classes: int) -> Judged:
    """Validation images of a folder or task with the network's own class numbers.

    Raises:
        UsageError: no such images, or other classes than the network's.
    """
    import numpy as np
    from PIL import ImageOps

    from nas.data.pictures import open_images
    from nas.errors import UsageError
    from nas.export.images import normalised
    from nas.export.loss import Judged

    data = open_images(source, resolution)
    if (set(data.class_names) != set(names)) if names else len(data.class_names) != classes:
        raise UsageError(f"--judge {source}: its {len(data.class_names)} classes are not the network's {classes}")
    number = [names.index(name) for name in data.class_names] if names else list(range(classes))
    pictures, labels = [], []
    for index in range(min(len(data.val), MOST_JUDGED)):
        image, label = data.val.get(index)
        if image is not None:
            pictures.append(np.asarray(ImageOps.fit(image, (resolution, resolution))))
            labels.append(number[label])
    if not pictures:
        raise UsageError(f"--judge {source}: none of its validation images can be read")
    return Judged(normalised(np.stack(pictures), mean, std), np.array(labels))


def _proxy(args: argparse.Namespace, source: Source) -> Variant:
    """The small network that a trial trained, as a variant of its own."""
    from pathlib import Path

    from nas.errors import UsageError
    from nas.export.proxy import proxy_variant

    if args.trial is None:
        raise UsageError(f"--weights proxy: {args.source} is no run; proxies are trained in runs (give RUN --trial N)")
    for word in ("resolution", "num_classes", "class_names", "device"):
        if getattr(args, word) is not None:
            raise UsageError(f"--{word.replace('_', '-')}: the proxy is exported as the run trained it")
    made = proxy_variant(Path(args.source), args.trial, args.name, source)
    made.options = _options(args, made.resolution, made.mean, made.std, made.class_names, made.num_classes)
    return made


def export(args: argparse.Namespace) -> int:
    from nas.errors import UsageError
    from nas.export import export as write
    from nas.export.folder import destination
    from nas.export.formats import format_named

    formats = [word.strip() for word in args.formats.split(",") if word.strip()]
    if args.int8 and args.calibration and "onnx-int8" not in formats:
        formats.append("onnx-int8")
    for word in formats:
        format_named(word)
    for word, needed in (("image_input", "coreml"), ("palettize", "coreml")):
        if getattr(args, word) and needed not in formats:
            raise UsageError(f"--{word.replace('_', '-')}: concerns {needed} only; add it to --formats")
    if args.int8 and not args.calibration and "coreml" not in formats:
        raise UsageError("--int8: for ONNX give --calibration DIR, for Core ML add coreml to --formats")
    if args.max_loss is not None and not args.max_loss >= 0:
        raise UsageError(f"--max-loss {args.max_loss:g}: expected points of top-1, zero or more")
    if (args.max_loss is not None or args.judge) and "onnx-int8" not in formats:
        raise UsageError("--max-loss and --judge concern int8 ONNX; add --int8 --calibration DIR")
    destination(args.name, args.to)
    made = write(build(args), args.to, formats)
    if args.json:
        print(json.dumps({"folder": str(made.folder), "failed": made.failed}))
    else:
        print(made.folder)
    if made.failed:
        print(f"search.py: failed formats: {', '.join(made.failed)}; the rest of {made.folder} is whole",
              file=sys.stderr)
    return 1 if made.failed else 0


def verify(args: argparse.Namespace) -> int:
    from pathlib import Path

    from nas.export import verify as check
    from nas.text import printable

    found = check(Path(args.folder))
    whole = all(line.ok for line in found)
    if args.json:
        print(json.dumps({"folder": args.folder, "ok": whole,
                          "checks": [{"file": f.file, "ok": f.ok, "text": f.text} for f in found]}))
    else:
        for line in found:
            print(printable(f"{'ok ' if line.ok else 'BAD'}  {line.file:<32} {line.text}"))
    return 0 if whole else 1
