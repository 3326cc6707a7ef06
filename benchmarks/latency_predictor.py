"""Error of the latency predictor on configurations it has not seen, by seconds of calibration, beside its nulls.

    python benchmarks/latency_predictor.py [--device onnxruntime] [--resolution 64] [--unseen 50] [--seconds 60]

The unseen configurations are drawn at random from the default space; half of them are measured before the
calibration and half after it, so that a drifting machine disturbs neither alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

import numpy as np
from scipy.stats import kendalltau

from fastvit import FastViTConfig
from nas.latency import measure
from nas.latency.calibration import calibrate, nulls
from nas.latency.devices import runtime
from nas.latency.predictor import LEAST, Predictor
from nas.latency.runtime import Setting
from space import SearchSpace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="onnxruntime")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--unseen", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    os.environ["FASTVIT_EXPLORER_CACHE"] = tempfile.mkdtemp()  # nothing known before
    space, rng = SearchSpace.load("default"), np.random.default_rng(args.seed)
    unseen = [space.sample(rng) for _ in range(args.unseen)]
    begun = time.perf_counter()
    half = len(unseen) // 2
    true = [measured(config, args) for config in unseen[:half]]
    setting = Setting(args.resolution, precision=runtime(args.device).precisions[0])
    found = calibrate(args.device, setting, seconds=args.seconds, seed=args.seed)
    true += [measured(config, args) for config in unseen[half:]]
    ms = np.array(true)
    print(f"{args.device}, {args.resolution} px, {len(unseen)} unseen configurations of {ms.min():.2f} to "
          f"{ms.max():.2f} ms, load {os.getloadavg()[0]:.1f}, {time.perf_counter() - begun:.0f} s in all")
    print(f"{'calibrated':>12}{'networks':>10}{'MAPE':>8}{'worst':>8}{'tau':>8}{'inside 95 %':>13}"
          f"{'GMACs MAPE':>12}{'tau':>7}{'activations MAPE':>18}{'tau':>7}")
    for seconds in (*(args.seconds * share for share in (0.25, 0.5, 0.75)), np.inf):
        seen = [i for i, after in enumerate(found.times) if after <= seconds]
        if len(seen) < LEAST:
            continue
        configs = [found.predictor.configs[i] for i in seen]
        fitted = Predictor(found.predictor.device, setting).fit(configs, found.predictor.ms[seen],
                                                                found.predictor.sd[seen])
        predicted, sd = fitted.predict(unseen)
        error = np.abs(predicted / ms - 1)
        line = (f"{found.times[seen[-1]]:>10.0f} s{len(seen):>10}{100 * error.mean():>7.1f}%{100 * error.max():>7.0f}%"
                f"{kendalltau(predicted, ms)[0]:>8.3f}{100 * np.mean(error < 1.96 * sd / predicted):>12.0f}%")
        for null, width in zip(nulls(configs, found.predictor.ms[seen], unseen, args.resolution).values(), (11, 17),
                               strict=True):
            line += f"{100 * np.abs(null / ms - 1).mean():>{width}.1f}%{kendalltau(null, ms)[0]:>7.2f}"
        print(line)
    begun = time.perf_counter()
    found.predictor.predict(many := [space.sample(rng) for _ in range(2000)])
    spent = time.perf_counter() - begun
    begun = time.perf_counter()
    found.predictor.predict(many)
    print(f"{len(many) / min(spent, time.perf_counter() - begun):,.0f} configurations a second")


def measured(config: FastViTConfig, args: argparse.Namespace) -> float:
    print(".", end="", file=sys.stderr, flush=True)
    return measure(config, args.device, resolution=args.resolution).latency_ms


if __name__ == "__main__":
    main()
