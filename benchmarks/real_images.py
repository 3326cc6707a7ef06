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
from zero_cost import sign_codes

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.bench.real_images import TruthRow, truth_rows
from nas.estimate.accuracy import AccuracyModel, Whole, data_set, shipped_whole

BINS, FEWEST = 5, 4
BUDGETS = ("t8", "s12", "sa12")  # whose latencies are the budgets


def known_without(task: str) -> list[Whole]:
    """What ships, without any row of a data set."""
    return [row for row in shipped_whole() if data_set(row.task) != task]


def by_data_set() -> dict[str, list[TruthRow]]:
    """Rows by data set, seeds of one network and protocol averaged."""
    found: dict[str, dict[tuple[str, FastViTConfig], list[TruthRow]]] = defaultdict(lambda: defaultdict(list))
    for row in truth_rows():
        found[row.task][row.protocol, row.config].append(row)
    return {task: [TruthRow(**vars(rows[0]) | {"top1": float(np.mean([row.top1 for row in rows]))})
                   for rows in by.values()] for task, by in found.items()}


def proxy_scores(path: Path | None) -> dict[int, dict[str, float]]:
    """Mean score over seeds, by steps and configuration."""
    found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines() if path else ():
        row = json.loads(line)
        found[row["steps"]][row["key"]].append(row["score"])
    return {steps: {key: float(np.mean(scores)) for key, scores in by.items()} for steps, by in found.items()}


def ranks(rows: list[TruthRow], known: list[Whole]) -> dict[str, np.ndarray]:
    configs = [row.config for row in rows]
    sizes = [cost(config, row.px) for config, row in zip(configs, rows, strict=True)]
    return {"estimate": AccuracyModel("new images", known=known).predict(configs).mean,
            "null: GMACs (the largest that fits)": np.array([s.gmacs for s in sizes]),
            "null: parameters": np.array([s.params_m for s in sizes]),
            "null: activations": np.array([s.activations_m for s in sizes]),
            "null: sign codes (zero-cost)": np.array([sign_codes(config) for config in configs])}


def coverage(rows: list[TruthRow], known: list[Whole], anchor: str | None = None) -> str:
    """How often the intervals hold, each protocol on its own; `anchor` is a preset whose row of it is known."""
    inside: dict[float, list[bool]] = {0.5: [], 0.9: []}
    errors: list[float] = []
    for protocol in {row.protocol for row in rows}:
        own = [row for row in rows if row.protocol == protocol]
        told = [Whole(protocol, row.config, row.top1 / 100, row.se / 100) for row in own
                if anchor and row.preset == anchor]
        others = [row for row in own if row.preset != anchor]
        if not others or (anchor and not told):
            continue
        found = AccuracyModel(protocol, told, known=known).predict([row.config for row in others])
        truth = np.array([row.top1 for row in others]) / 100
        errors += (100 * (found.top1 - truth)).tolist()
        for level, hits in inside.items():
            low, high = found.interval(level)
            hits += ((low <= truth) & (truth <= high)).tolist()
    said = [f"{level:.0%} intervals hold {np.mean(hits):.0%} of {len(hits)}" for level, hits in inside.items() if hits]
    if not said:
        return "no rows"
    size = np.sqrt(np.mean(np.square(errors)))
    return "; ".join([*said, f"mean error {np.mean(errors):+.1f}, root mean square {size:.1f} points"])


def judged(task: str, rows: list[TruthRow], proxies: dict[int, dict[str, float]], *, latency: bool) -> None:
    known = known_without(task)
    truth = np.array([row.top1 for row in rows])
    size = np.log([cost(row.config, row.px).gmacs for row in rows])
    # Only networks of one protocol compare.
    names = sorted({row.protocol for row in rows})
    group = np.array([names.index(row.protocol) for row in rows])
    bins = group * BINS + np.digitize(size, np.quantile(size, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = ", ".join(f"{sum(group == i)} of {name.partition('/')[2]}" for i, name in enumerate(names))
    print(f"\n## {task}: {len(rows)} networks ({counts}); the estimate knows {len(known)} rows of other data\n\n"
          "| ranked by | tau | tau in bins of GMACs |\n|---|---|---|")
    found = ranks(rows, known)
    for name, values in found.items():
        print(f"| {name} | {with_interval(pairs_tau, values, truth, group)} | "
              f"{with_interval(pairs_tau, values, truth, bins)} |", flush=True)
    for steps, by in sorted(proxies.items()):
        at = [i for i, row in enumerate(rows) if row.config.key() in by]
        if len(at) >= FEWEST:
            own = np.array([by[rows[i].config.key()] for i in at])
            print(f"| raw proxy, {steps} steps ({len(at)} of the networks; GMACs among them "
                  f"{pairs_tau(size[at], truth[at], group[at]):+.2f}, estimate "
                  f"{pairs_tau(found['estimate'][at], truth[at], group[at]):+.2f}) | "
                  f"{with_interval(pairs_tau, own, truth[at], group[at])} | "
                  f"{with_interval(pairs_tau, own, truth[at], bins[at])} |")
    print(f"\nnothing of {task} known: {coverage(rows, known)}\n\nT8 of the same training known: "
          f"{coverage(rows, known, 't8')}")
    if latency:
        for index, name in enumerate(names):
            own = np.flatnonzero(group == index)
            if len(own) >= FEWEST:
                print(f"\n{name}")
                picks([rows[i] for i in own], {key: values[own] for key, values in found.items()})


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
    for task, rows in by_data_set().items():
        if len(rows) >= FEWEST:
            judged(task, rows, proxies, latency=not args.no_latency)
        else:
            print(f"\n{task}: {len(rows)} networks are too few to rank by")


if __name__ == "__main__":
    main()
