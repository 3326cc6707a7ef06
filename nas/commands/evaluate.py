"""`search.py evaluate`: what a variant is worth on a folder of images, in each of its forms."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DEFAULT_FORMS = "fused,unfused,onnx"


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "evaluate", help="accuracy of a variant on your images", allow_abbrev=False,
        description="Top-1, top-5, calibration error and confusion of a variant on a validation folder, fused, unfused "
                    "and through its exported formats. Folders of ImageNet-A, -R and -Sketch are compared on their "
                    "classes alone, a tree of ImageNet-C gives the mean corruption error.")
    parser.add_argument("variant", metavar="VARIANT", help="an exported variant")
    parser.add_argument("--data", required=True, metavar="DIR",
                        help="an image folder (of its test/, else its val/, else one folder a class), an ImageNet-C "
                             "tree, digits, shapes or builtin")
    parser.add_argument("--split", choices=("train", "val", "test"), help="another split of the folder")
    parser.add_argument("--forms", default=DEFAULT_FORMS, metavar="A,B",
                        help=f"fused, unfused, or formats and files of the folder (default {DEFAULT_FORMS}, as far as "
                             "it has them)")
    parser.add_argument("--resolution", type=int, metavar="PX", help="input size (default: the variant's; other sizes "
                                                                     "for fused and unfused only)")
    parser.add_argument("--corrupt", metavar="all|NAME,..",
                        help="also with corruptions of the imagecorruptions library, five severities each")
    parser.add_argument("--limit", type=int, metavar="N", help="only N images, drawn at random")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at once (default 64)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that load images")
    parser.add_argument("--confusion", metavar="FILE", help="write the confusion matrix of the first form as CSV")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.evaluate:evaluate")


def evaluate(args: argparse.Namespace) -> int:
    from nas.errors import UsageError
    from nas.evaluate.run import evaluate as run
    from nas.evaluate.run import write_confusion
    from nas.export.variant import read_sheet

    for name, low in (("resolution", 32), ("limit", 1), ("batch_size", 1), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < low:
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected at least {low}")
    folder = Path(args.variant)
    sheet = read_sheet(folder)
    forms = [word.strip() for word in args.forms.split(",") if word.strip()]
    if args.forms == DEFAULT_FORMS:
        forms = [form for form in forms if form != "onnx" or ("onnx" in sheet["formats"]
                                                              and args.resolution in (None, sheet["resolution"]))]
    found = run(folder, args.data, forms, resolution=args.resolution, corrupt=args.corrupt, limit=args.limit,
                batch=args.batch_size, workers=args.workers, split=args.split)
    if args.confusion:
        write_confusion(Path(args.confusion), found)
    if args.json:
        print(json.dumps(found))
    else:
        print(_table(found))
    return 0


def _table(found: dict[str, Any]) -> str:
    lines = []
    for note in [*found["data_notes"], *([found["note"]] if found.get("note") else [])]:
        print(note, file=sys.stderr)
    for form, values in found["forms"].items():
        if "not_run" in values:
            lines.append(f"{form:<24} not run: {values['not_run']}")
        elif "top1" in values:
            lines.append(f"{form:<24} top-1 {values['top1']:6.2f} %  top-5 {values['top5']:6.2f} %  calibration error "
                         f"{values['ece']:.3f}  on {values['images']} images")
        for key, words in (("mce", "mean corruption error (AlexNet = 100)"),
                           ("mean_corruption_error_unnormalised", "mean error over corruptions, not normalised")):
            if key in values:
                lines.append(f"{form:<24} {words}: {values[key]:.2f} %")
                lines += [f"    {name:<20} {' '.join(f'{e:6.2f}' for e in errors)} % error at severities 1 to 5"
                          for name, errors in values["errors"].items()]
    for row in found.get("most_confused", []):
        lines.append(f"{row['images']:>6} images of {row['class']} taken for {row['taken_for']}")
    return "\n".join(lines)
