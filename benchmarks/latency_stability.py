"""How far one network's latency moves from session to session, alone and beside busy processes.

    python benchmarks/latency_stability.py [--sessions 5] [--resolution 64]

Each session is a measuring process of its own. Compared are the protocol's estimate (ratio to an interleaved
reference, process-CPU time), the mean of 30 wall times and the median of 30 wall times of the same networks.
The spread is the largest deviation of a session from the median of all sessions.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time

import numpy as np

from fastvit import PRESETS, FastViTConfig
from nas.latency import measure
from nas.latency.process import BENCH
from nas.latency.reference import ROOT, stored_unit
from nas.latency.runtime import Setting

_T8 = PRESETS["t8"]
NETWORKS: dict[str, FastViTConfig] = {
    "t8": _T8, "s12": PRESETS["s12"],
    "narrow": _T8.replace(widths=(16, 32, 64, 128)),
    "shallow": _T8.replace(depths=(1, 1, 1, 1), widths=(32, 64, 128, 256)),
    "attention": _T8.replace(depths=(1, 1, 3, 1), widths=(24, 48, 96, 192),
                             mixers=("repmixer", "repmixer", "repmixer", "attention"))}
RUNS = 30
ESTIMATES = ("ours", "mean of 30 wall", "median of 30 wall")


def session(resolution: int, first_unit: float) -> dict[str, dict[str, float]]:
    BENCH.close()
    found, setting = {}, Setting(resolution)
    for name, config in NETWORKS.items():
        ours = measure(config, resolution=resolution, fresh=True)
        wall = measure(config, resolution=resolution, fresh=True, protocol="paper").samples["trial_ms"][:RUNS]
        # A session that finds the stored reference disturbed scales it: that moves every network alike, and no ratio.
        scale = first_unit / (stored_unit(ROOT, "onnxruntime", setting) or first_unit)
        found[name] = {"ours": ours.latency_ms * scale, "mean of 30 wall": float(np.mean(wall)),
                       "median of 30 wall": float(np.median(wall)),
                       "inside": float(ours.ci_high_ms - ours.ci_low_ms) / 2 / ours.latency_ms}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=int, default=5, help="for each number of busy processes")
    parser.add_argument("--resolution", type=int, default=64)
    args = parser.parse_args()
    rows: list[tuple[int, dict[str, dict[str, float]]]] = []
    measure(_T8, resolution=args.resolution, fresh=True)
    first_unit = stored_unit(ROOT, "onnxruntime", Setting(args.resolution)) or math.nan
    begun = time.perf_counter()
    loads = []
    for busy in (0, 1, 2):
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for number in range(args.sessions):
                rows.append((busy, session(args.resolution, first_unit)))
                loads.append(os.getloadavg()[0])
                print(f"{busy} busy, session {number + 1}: {time.perf_counter() - begun:.0f} s, load {loads[-1]:.1f}",
                      file=sys.stderr)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
    print(f"{len(rows)} sessions in {time.perf_counter() - begun:.0f} s, load {min(loads):.1f} to {max(loads):.1f}")
    print(f"largest deviation of a session from the median of all, %\n{'':<12}{'ms':>8}"
          + "".join(f"{name:>20}" for name in ESTIMATES) + f"{'95 % half-width':>18}{'covered':>9}")
    for name in NETWORKS:
        cells = []
        for estimate in ESTIMATES:
            values = np.array([found[name][estimate] for _, found in rows])
            cells.append(100 * np.abs(values / np.median(values) - 1).max())
        ours = np.array([found[name]["ours"] for _, found in rows])
        half = np.array([found[name]["inside"] for _, found in rows])
        inside = np.mean(np.abs(ours / np.median(ours) - 1) <= half)
        print(f"{name:<12}{np.median(ours):>8.3f}" + "".join(f"{cell:>20.1f}" for cell in cells)
              + f"{100 * np.median(half):>18.1f}{100 * inside:>8.0f}%")
    for busy in (0, 1, 2):
        print(f"{busy} busy processes: " + ", ".join(
            f"{estimate} {100 * max(_deviation(rows, name, estimate, busy) for name in NETWORKS):.1f} %"
            for estimate in ESTIMATES))


def _deviation(rows: list[tuple[int, dict[str, dict[str, float]]]], name: str, estimate: str, busy: int) -> float:
    middle = np.median([found[name][estimate] for _, found in rows])
    return max(abs(found[name][estimate] / middle - 1) for level, found in rows if level == busy)


if __name__ == "__main__":
    main()
