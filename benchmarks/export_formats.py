"""Export: seconds and sizes by format, and how far the forms of the presets and of random networks are apart.

    python benchmarks/export_formats.py formats [--network sa12] [--resolution 256]
    python benchmarks/export_formats.py parity [--random 20] [--resolution 256]

`parity` exports every preset and random configurations of the default space with statistics of order 1
(fresh ones would hide a wrong fusion) and prints the largest relative difference to the train form's logits
over noise, photographs and flat images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from fastvit import PRESETS, FastViTConfig
from nas.export import Options, Variant, export
from nas.export.formats import FORMATS, format_named
from nas.export.images import calibration_images
from nas.export.parity import INCOMPARABLE, stressed
from nas.export.weights import random_model
from space import SearchSpace


def formats(network: str, resolution: int) -> None:
    """One export a format, so that none profits from another's work; seconds of wall and of process time."""
    options = Options(int8=True, palettize=True, calibration=calibration_images("builtin", resolution, limit=32))
    print(f"{network}, {resolution} px\n\n| format | s | process s | file | MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as out:
        for name in FORMATS:
            if why := format_named(name).missing():
                print(f"| {name} | | | {why} | |")
                continue
            model = random_model(PRESETS[network], 1000)
            variant = Variant("bench", PRESETS[network], model.eval(), resolution, options=options)
            begun = time.perf_counter(), time.process_time()
            folder = Path(out) / name
            folder.mkdir()
            with contextlib.redirect_stdout(io.StringIO()):
                artefacts = format_named(name).write(variant, folder)
            seconds = f"{time.perf_counter() - begun[0]:.1f} | {time.process_time() - begun[1]:.1f}"
            for artefact in artefacts:
                path = folder / artefact.file
                files = [*path.parent.glob(f"{path.stem}.*")] if name == "openvino" else [
                    p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()]
                size = sum(p.stat().st_size for p in files) / 1e6
                file = artefact.file.replace("bench", network)
                print(f"| {name} | {seconds} | {file} | {size:.1f} |", flush=True)
                seconds = " | "


def parity(count: int, resolution: int, wanted: list[str], *, presets: bool = True) -> None:
    space, rng = SearchSpace.load("default"), np.random.default_rng(0)
    networks: dict[str, FastViTConfig] = (dict(PRESETS) if presets else {}) | {
        f"random {i}": space.sample(rng) for i in range(count)}
    columns: list[str] = []
    with tempfile.TemporaryDirectory() as out:
        worst: dict[str, float] = {}
        for index, (label, config) in enumerate(networks.items()):
            variant = Variant("net", config, stressed(random_model(config, 100)), resolution)
            with contextlib.redirect_stderr(io.StringIO()):
                made = export(variant, Path(out) / str(index), wanted)
            found = json.loads((made.folder / "parity.json").read_text())
            row = {form: max(kind["relative"] for kind in kinds.values()) for form, kinds in found.items()
                   if isinstance(kinds, dict) and "not_run" not in kinds and form != "fused, weights of order 1"}
            if not columns:
                columns = list(row)
                print("| network | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|")
            cells = ["failed" if row.get(c, INCOMPARABLE) == INCOMPARABLE else f"{row[c]:.1e}" for c in columns]
            print(f"| {label} | " + " | ".join(cells) + " |", flush=True)
            for column in columns:
                worst[column] = max(worst.get(column, 0.0), row.get(column, INCOMPARABLE))
        print("| worst | " + " | ".join(f"{worst[c]:.1e}" for c in columns) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("formats", "parity"))
    parser.add_argument("--network", default="sa12", choices=tuple(PRESETS))
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--no-presets", action="store_true", help="parity of random networks only")
    parser.add_argument("--formats", default="timm,onnx,openvino")
    args = parser.parse_args()
    if args.what == "formats":
        formats(args.network, args.resolution)
    else:
        parity(args.random, args.resolution, args.formats.split(","), presets=not args.no_presets)


if __name__ == "__main__":
    main()
