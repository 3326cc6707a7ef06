"""The seven presets on every runtime that can be used here, and where the seconds of a measurement go.

    python benchmarks/latency_runtimes.py [--resolution 256] [--presets t8,s12]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fastvit import PRESETS
from nas.errors import Failure
from nas.latency import devices, measure
from nas.latency.network import Network
from nas.runs.measurement import Measurement
from space import SearchSpace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--random", type=int, default=12, help="configurations for the seconds by stage")
    args = parser.parse_args()
    presets = args.presets.split(",")
    usable = [status for status in devices() if status.usable and status.origin == "measured"]
    print(f"ms at {args.resolution} px, batch 1, one thread, fp32; * marks a flag\n{'':<14}"
          + "".join(f"{name:>16}" for name in presets))
    begun = time.perf_counter()
    for status in usable:
        cells = []
        for name in presets:
            try:
                found = measure(PRESETS[name], status.name, resolution=args.resolution, fresh=True)
                half = 50 * (found.ci_high_ms - found.ci_low_ms) / found.latency_ms
                cells.append(f"{found.latency_ms:.1f} ± {half:.0f}%" + "*" * bool(found.flags))
            except Failure as error:
                cells.append("failed")
                print(f"{status.name} {name}: {error}")
        print(f"{status.name:<14}" + "".join(f"{cell:>16}" for cell in cells) + f"   {status.version}")
    print(f"{time.perf_counter() - begun:.0f} s\n")

    space, rng = SearchSpace.load("default"), np.random.default_rng(7)
    print(f"median seconds of a measurement by stage, {args.random} random configurations, process and references warm")
    for resolution in (64, args.resolution):
        found_all: list[Measurement] = []
        walls = []
        for _ in range(args.random):
            config, started = space.sample(rng), time.perf_counter()
            found_all.append(measure(config, resolution=resolution, fresh=True))
            walls.append(time.perf_counter() - started)
        stages = {stage: float(np.median([found.stages_s[stage] for found in found_all]))
                  for stage in ("prepare", "wait", "measure")}
        print(f"  {resolution} px: " + ", ".join(f"{stage} {value:.2f}" for stage, value in stages.items())
              + f", all {np.median(walls):.2f}")
    print("seconds of processor time from a configuration to an ONNX file")
    for name in ("t8", "sa12"):
        Network(config=PRESETS[name]).onnx(args.resolution, 1)  # imports are paid for once
        started = time.process_time()
        Network(config=PRESETS[name]).onnx(args.resolution, 1)
        direct = time.process_time() - started
        started = time.process_time()
        traced(name, args.resolution)
        print(f"  {name}: {direct:.2f} written from shapes, {time.process_time() - started:.2f} built, fused and "
              "traced (torch.onnx.export, dynamo=False)")


def traced(name: str, resolution: int) -> None:
    import io
    import warnings

    import torch

    from fastvit import FastViT, reparameterize

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = reparameterize(FastViT(PRESETS[name]))
        torch.onnx.export(model, (torch.zeros(1, 3, resolution, resolution),), io.BytesIO(),  # type: ignore[arg-type]
                          dynamo=False, opset_version=17)


if __name__ == "__main__":
    main()
