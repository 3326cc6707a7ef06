"""Train a small variant for real and compare it with a linear model: scikit-learn's digits, and drawn shapes.

    python benchmarks/train_digits.py [digits] [shapes] [--out DIR]

The linear model is a multinomial logistic regression on the standardised pixels of the same training images
(8,192 of the shapes), with the strength of its L2 penalty chosen on the validation images, which only
flatters it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastvit import FastViTConfig
from nas.data import load_task

ROOT = Path(__file__).parents[1]
SMALL = FastViTConfig(depths=(1, 1, 2, 1), widths=(24, 48, 96, 128), mlp_ratios=(2, 2, 2, 2),
                      mixers=("repmixer",) * 4, ffn_kernels=(5, 5, 5, 5), patch_kernels=(5, 5, 5), layer_scale_init=0.1)
# Resolution, stem stride, pixels of the linear model, images it sees, arguments of `train`.
TASKS = {
    "digits": (32, 2, 8, 1437, ["--epochs", "12", "--lr", "3e-3"]),
    "shapes": (64, 4, 32, 8192, ["--epochs", "3", "--batch-size", "64", "--lr", "3e-3", "--set", "epoch_images=6144",
                                  "--set", "warmup_epochs=0", "--set", "smoothing=0"]),
}


def linear(name: str) -> float:
    """Top-1 of the linear model on the validation images, in percent."""
    resolution, _, pixels, images, _ = TASKS[name]
    task = load_task(name, resolution=resolution, seed=42)
    train = task.train.batch(np.arange(min(images, len(task.train))), pixels)
    val = task.val.batch(np.arange(len(task.val)), pixels)
    x, y = (part.images.reshape(len(part.images), -1) / np.float32(255) for part in (train, val))
    scores = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=100)).fit(x, train.labels).score(
        y, val.labels) for c in (1e-4, 1e-3, 1e-2)]
    return 100 * max(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[], help=f"some of {', '.join(TASKS)} (default all)")
    parser.add_argument("--out", help="keep the trained variants here")
    args = parser.parse_args()
    print("| task | px | classes | linear top-1 % | variant fused % | unfused % | ECE | training s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary)
        out.mkdir(parents=True, exist_ok=True)
        for name in args.tasks or TASKS:
            resolution, stride, _, _, words = TASKS[name]
            config = out / f"{name}.json"
            config.write_text(SMALL.replace(stem_stride=stride).to_json())
            begun = time.monotonic()
            done = subprocess.run([sys.executable, "search.py", "train", str(config), "--name", f"small_{name}", "--to",
                                   str(out), "--resolution", str(resolution), "--data", name, "--json", *words],
                                  cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout)["accuracy"]
            seconds, base = time.monotonic() - begun, linear(name)
            classes = len(load_task(name, resolution=resolution).class_names)
            print(f"| {name} | {resolution} | {classes} | {base:.2f} | {found['fused']['top1']:.2f} | "
                  f"{found['unfused']['top1']:.2f} | {found['fused']['ece']:.3f} | {seconds:.0f} |",
                  flush=True)


if __name__ == "__main__":
    main()
