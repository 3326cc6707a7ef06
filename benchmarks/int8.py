"""What int8 costs after reparameterization: top-1 of trained networks in fp32, fp16 and static int8 on real images.

    python benchmarks/int8.py [--data ../shared/data/clothing160] train NAME --out DIR [--pixels 96] [--epochs 10]
    python benchmarks/int8.py table DIR/NAME.pt...

`train` trains one network from random weights on DATA/train (AdamW, cosine from 1e-3, flips and shifts, label smoothing
0.1) in the published form (branches = 1) or, as NAME-lean, without branches. `table` fuses it, exports ONNX and prints
top-1 on DATA/test with its standard error, and how many decisions differ from fp32. Not part of the product: the images
are not shipped.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastvit import PRESETS, FastViT, FastViTConfig
from nas.export import Variant, onnx_model
from nas.export.images import normalised
from nas.latency.quantize import reader

HALF = {"widths": (32, 64, 128, 256), "depths": (2, 2, 4, 2), "layer_scale_init": 0.1}
NETWORKS: dict[str, FastViTConfig] = {
    "half-t8": PRESETS["t8"].replace(**HALF),
    "half-sa12": PRESETS["sa12"].replace(**HALF, drop_path=0.0),
    "quarter-sa12": PRESETS["sa12"].replace(**HALF | {"widths": (16, 32, 64, 128), "depths": (1, 1, 2, 1)},
                                            drop_path=0.0),
}
BATCH = 64


def images(folder: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, R, R, 3) and labels (N,) of a class folder."""
    from PIL import Image, ImageOps

    found, labels = [], []
    for label, one in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(one.iterdir()):
            try:
                with Image.open(path) as image:
                    whole = ImageOps.exif_transpose(image).convert("RGB")
            except OSError:
                continue
            found.append(np.asarray(ImageOps.fit(whole, (pixels, pixels), Image.Resampling.BICUBIC)))
            labels.append(label)
    return np.stack(found), np.array(labels)


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    name = args.name.removesuffix("-lean")
    config = NETWORKS[name].replace(branches=0 if args.name.endswith("-lean") else 1)
    x, y = images(args.data / "train", args.pixels)
    rng, pad, total = np.random.default_rng(0), args.pixels // 8, args.epochs * (len(y) // BATCH)
    model = FastViT(config, int(y.max()) + 1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, (s + 1) / (0.05 * total)) * 0.5 * (
        1 + math.cos(math.pi * s / total)))
    begun = time.process_time()
    for epoch in range(args.epochs):
        for index in rng.permutation(len(y))[: len(y) // BATCH * BATCH].reshape(-1, BATCH):
            batch = x[index].copy()
            flip = rng.random(BATCH) < 0.5
            batch[flip] = batch[flip, :, ::-1]
            batch = np.pad(batch, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
            i, j = rng.integers(0, 2 * pad + 1, 2)
            batch = batch[:, i:i + args.pixels, j:j + args.pixels]
            loss = nn.functional.cross_entropy(model(torch.from_numpy(normalised(batch))),
                                               torch.from_numpy(y[index]).long(), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        print(f"{args.name} epoch {epoch + 1}: loss {loss.item():.3f}, {time.process_time() - begun:.0f} CPU s",
              flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": model.state_dict(), "config": config.to_json(), "pixels": args.pixels,
                "classes": model.num_classes}, args.out / f"{args.name}.pt")


def decisions(session: Any, x: np.ndarray) -> np.ndarray:
    """The class (N,) that an ONNX session chooses for uint8 images (N, R, R, 3)."""
    return np.concatenate([session.run(None, {"image": normalised(x[i:i + 50])})[0].argmax(1)
                           for i in range(0, len(x), 50)])


def quantized(ready: Path, calibration: np.ndarray, method: str, *, per_channel: bool, signed: bool,
              first_last: bool) -> Path:
    """The static int8 form of the preprocessed ONNX file `ready`.

    Args:
        signed: int8 activations instead of uint8.
        first_last: quantize the first convolution and the classifier too.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    nodes = [node for node in onnx.load_model(ready).graph.node if node.op_type in ("Conv", "Gemm")]
    path = ready.with_name(f"{method}-{per_channel}-{signed}-{first_last}.onnx")
    quantize_static(ready, path, reader(calibration), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                    calibrate_method=getattr(CalibrationMethod, method),
                    activation_type=QuantType.QInt8 if signed else QuantType.QUInt8, weight_type=QuantType.QInt8,
                    op_types_to_quantize=["Conv", "Gemm"],
                    nodes_to_exclude=[] if first_last else [nodes[0].name, nodes[-1].name])
    return path


def table(args: argparse.Namespace) -> None:
    import onnx
    import onnxruntime
    from onnxruntime.quantization.shape_inference import quant_pre_process

    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    for file in args.files:
        kept = torch.load(file, weights_only=True)
        config = FastViTConfig.from_json(kept["config"])
        model = FastViT(config, kept["classes"])
        model.load_state_dict(kept["state_dict"])
        x, y = images(args.data / "test", kept["pixels"])
        pool, _ = images(args.data / "train", kept["pixels"])
        calibration = normalised(pool[np.random.default_rng(1).choice(len(pool), args.images, replace=False)])
        variant = Variant(file.stem.replace("-", "_"), config, model.eval(), kept["pixels"])
        rows: list[tuple[str, np.ndarray]] = []
        with tempfile.TemporaryDirectory() as aside, torch.inference_mode():
            plain, ready = Path(aside) / "plain.onnx", Path(aside) / "ready.onnx"
            with torch.inference_mode(False):
                onnx.save_model(onnx_model.to_onnx(variant, dynamic_batch=True), plain)
            quant_pre_process(plain, ready, skip_symbolic_shape=True)

            def run(path: Path, x: np.ndarray = x) -> np.ndarray:
                return decisions(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), x)

            rows.append(("fp32", run(plain)))
            half = copy.deepcopy(variant.fused).half()
            parts = (torch.from_numpy(normalised(x[i:i + 50])).half() for i in range(0, len(x), 50))
            rows.append(("fp16", np.concatenate([half(part).argmax(1).numpy() for part in parts])))
            for method in ("MinMax", "Percentile", "Entropy"):
                for per_channel in (True, False):
                    rows.append((f"int8 {method}, {'a scale a channel' if per_channel else 'one scale a tensor'}", run(
                        quantized(ready, calibration, method, per_channel=per_channel, signed=False,
                                  first_last=True))))
            for signed, ends in ((True, True), (False, False)):
                words = "signed activations" if signed else "first convolution and classifier in fp32"
                rows.append((f"int8 MinMax, a scale a channel, {words}", run(
                    quantized(ready, calibration, "MinMax", per_channel=True, signed=signed, first_last=ends))))
        print(f"\n{file.stem}, {kept['pixels']} px, {len(y)} test images, {args.images} for calibration\n\n"
              "| form | top-1, % | loss, points | decisions changed, % |\n|---|---|---|---|")
        base = rows[0][1]
        for name, found in rows:
            hit, loss = found == y, (base == y).astype(float) - (found == y)
            spread = loss.std() / len(y)**0.5
            print(f"| {name} | {100 * hit.mean():.1f} | {100 * loss.mean():+.1f} ± {100 * spread:.1f} "
                  f"| {100 * (found != base).mean():.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing160"))
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("name", help=", ".join(NETWORKS) + ", or one of them with -lean")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--pixels", type=int, default=96)
    training.add_argument("--epochs", type=int, default=10)
    training.set_defaults(run=train)
    printing = commands.add_parser("table")
    printing.add_argument("files", type=Path, nargs="+")
    printing.add_argument("--images", type=int, default=128, help="for calibration")
    printing.set_defaults(run=table)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
