"""What the estimate of accuracy on photographs is worth: against whole networks, beside rules that need no training.

    python benchmarks/real_images.py [--proxies FILE] [--no-latency]

Truth is FastViT-Bench's rows of real images (python -m nas.bench truth makes more). The estimate is judged with every
row of the judged data set left out, as on a user's images, and again with T8's row known, as in a run that has trained
it. Ranks are Kendall's tau; "in bins" compares only networks in the same fifth of GMACs; intervals are 95 % bootstraps
over networks. FILE has one JSON object a line, {"key", "seed", "steps", "score"}: proxies of the same networks.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from fidelity import latency_ms, pairs_tau, with_interval

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.bench.real_images import TruthRow, truth_rows
from nas.estimate.accuracy import AccuracyModel, Whole, data_set, features, shipped_whole
from nas.proxy.zero_cost import sign_codes

BINS, FEWEST = 5, 6
BUDGETS = ("t8", "s12", "sa12")  # whose latencies are the budgets


def known_without(task: str) -> list[Whole]:
    """What ships, without any row of a data set."""
    return [row for row in shipped_whole() if data_set(row.task) != task]


def grouped() -> dict[str, list[TruthRow]]:
    """Rows by protocol, seeds of one network averaged."""
    found: dict[str, dict[FastViTConfig, list[TruthRow]]] = defaultdict(lambda: defaultdict(list))
    for row in truth_rows():
        found[row.protocol][row.config].append(row)
    return {protocol: [TruthRow(**vars(rows[0]) | {"top1": float(np.mean([row.top1 for row in rows]))})
                       for rows in by.values()] for protocol, by in found.items()}


def proxy_scores(path: Path | None) -> dict[int, dict[str, float]]:
    """Mean score over seeds, by steps and configuration."""
    found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines() if path else ():
        row = json.loads(line)
        found[row["steps"]][row["key"]].append(row["score"])
    return {steps: {key: float(np.mean(scores)) for key, scores in by.items()} for steps, by in found.items()}


def ranks(rows: list[TruthRow], model: AccuracyModel) -> dict[str, np.ndarray]:
    configs = [row.config for row in rows]
    sizes = [cost(config, row.px) for config, row in zip(configs, rows, strict=True)]
    return {"estimate": model.predict(configs).mean,
            "null: GMACs (the largest that fits)": np.array([s.gmacs for s in sizes]),
            "null: parameters": np.array([s.params_m for s in sizes]),
            "null: activations": np.array([s.activations_m for s in sizes]),
            "null: sign codes (zero-cost)": np.array([sign_codes(config) for config in configs])}


def coverage(model: AccuracyModel, rows: list[TruthRow]) -> str:
    found, truth = model.predict([row.config for row in rows]), np.array([row.top1 for row in rows])
    said = []
    for level in (0.5, 0.9):
        low, high = found.interval(level)
        inside = np.mean((100 * low <= truth) & (truth <= 100 * high))
        said.append(f"{100 * level:.0f} % intervals hold {inside:.0%} "
                    f"(half width {50 * np.mean(high - low):.1f} points)")
    error = 100 * found.top1 - truth
    return "; ".join(said) + f"; mean error {error.mean():+.1f}, spread of errors {error.std():.2f} points"


def judged(protocol: str, rows: list[TruthRow], proxies: dict[int, dict[str, float]], *, latency: bool) -> None:
    task = rows[0].task
    truth = np.array([row.top1 for row in rows])
    model = AccuracyModel(protocol, known=known_without(task))
    size = np.log([cost(row.config, row.px).gmacs for row in rows])
    bins = np.digitize(size, np.quantile(size, np.linspace(0, 1, BINS + 1)[1:-1]))
    print(f"\n## {protocol}: {len(rows)} networks, top-1 {truth.min():.1f} to {truth.max():.1f} %, the estimate from "
          f"{len(model.rows)} rows of other data\n\n| ranked by | tau | tau in bins of GMACs |\n|---|---|---|")
    found = ranks(rows, model)
    for name, values in found.items():
        print(f"| {name} | {with_interval(lambda a, b: pairs_tau(a, b, None), values, truth)} | "
              f"{with_interval(pairs_tau, values, truth, bins)} |", flush=True)
    for steps, by in sorted(proxies.items()):
        at = [i for i, row in enumerate(rows) if row.config.key() in by]
        if len(at) >= FEWEST:
            own = np.array([by[rows[i].config.key()] for i in at])
            off = [_beyond_size(values, [rows[i].config for i in at]) for values in (own, truth[at])]
            print(f"| raw proxy, {steps} steps ({len(at)} networks; GMACs there "
                  f"{pairs_tau(size[at], truth[at], None):+.2f}; correlation beyond size "
                  f"{np.corrcoef(*off)[0, 1]:+.2f}) | "
                  f"{with_interval(lambda a, b: pairs_tau(a, b, None), own, truth[at])} | "
                  f"{with_interval(pairs_tau, own, truth[at], bins[at])} |")
    print(f"\nnothing of {task} known: {coverage(model, rows)}")
    presets = [Whole(protocol, row.config, row.top1 / 100, row.se / 100) for row in rows if row.preset == "t8"]
    others = [row for row in rows if row.preset != "t8"]
    if presets and others:
        run = AccuracyModel(protocol, presets, known=known_without(task))
        print(f"T8 trained on it: {coverage(run, others)}")
    if latency:
        picks(rows, found)


def _beyond_size(values: np.ndarray, configs: list[FastViTConfig]) -> np.ndarray:
    """What is left of values when a line in log GMACs and log parameters is taken out."""
    x = np.column_stack([np.ones(len(configs)), features(configs)[:, :2]])
    return values - x @ np.linalg.lstsq(x, values, rcond=None)[0]


def picks(rows: list[TruthRow], found: dict[str, np.ndarray]) -> None:
    """Top-1 of the network that each rule picks under the latency of a preset, beside the best preset that fits."""
    ms = np.array([latency_ms(row.config) for row in rows])
    truth = np.array([row.top1 for row in rows])
    print("\n| picked under the latency of | " + " | ".join(BUDGETS) + " |\n|---|" + "---|" * len(BUDGETS))
    budgets = [latency_ms(PRESETS[name]) for name in BUDGETS]
    rules = {name: values for name, values in found.items() if not name.endswith("(zero-cost)")}
    presets = np.array([row.preset is not None for row in rows])
    for name, values, allowed in [*((n, v, np.ones(len(rows), bool)) for n, v in rules.items()),
                                  ("the best preset that fits", truth, presets),
                                  ("the best of all that fit", truth, np.ones(len(rows), bool))]:
        cells = []
        for budget in budgets:
            under = np.flatnonzero((ms <= 1.001 * budget) & allowed)
            best = under[np.argmax(values[under])] if len(under) else None
            cells.append("-" if best is None else f"{truth[best]:.1f} ({ms[best]:.2f} ms)")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxies", type=Path)
    parser.add_argument("--no-latency", action="store_true", help="measure nothing: no picks under budgets")
    args = parser.parse_args()
    proxies = proxy_scores(args.proxies)
    for protocol, rows in grouped().items():
        if len(rows) >= FEWEST:
            judged(protocol, rows, proxies, latency=not args.no_latency)
        else:
            print(f"\n{protocol}: {len(rows)} networks are too few to rank by")


if __name__ == "__main__":
    main()
