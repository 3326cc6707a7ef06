"""What the score is worth: reliability, validity against long runs on another task, nulls, ceiling, regret.

    python benchmarks/fidelity.py [--task builtin] [--truth shapes] [--steps 240] [--long 1200]

Everything is read from FastViT-Bench (nas/bench/), so that it repeats in a minute; `python -m nas.bench make` extends
the table. Truth is the long runs' score on a task that no estimator sees. Whatever is fitted is judged on
configurations that it was not fitted to (leave-one-out). Ranks are Kendall's tau-b; "inside bins" compares only pairs
of configurations in the same bin of latency; intervals are 95 % bootstraps over configurations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, kendalltau
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastvit import FastViTConfig
from fastvit.cost import cost
from nas.bench.table import read_bench
from nas.front import pareto
from nas.proxy.zero_cost import sign_codes, synflow
from nas.surrogate import Evidence, Surrogate, encode, leave_out, size_features

BINS = 5
RESAMPLES = 2000


def pairs_tau(x: np.ndarray, y: np.ndarray, same_bin: np.ndarray | None) -> float:
    """Kendall's tau-a over the pairs that count: concordant minus discordant, as a share of them."""
    i, j = np.triu_indices(len(x), 1)
    counts = np.ones(len(i), bool) if same_bin is None else same_bin[i] == same_bin[j]
    agree = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
    return float(agree[counts].mean()) if counts.any() else np.nan


def with_interval(statistic: Callable[..., float], *columns: np.ndarray) -> str:
    """The statistic and its bootstrap interval over configurations."""
    found = bootstrap(columns, lambda *picked: statistic(*picked), paired=True, vectorized=False, method="percentile",
                      n_resamples=RESAMPLES, rng=np.random.default_rng(0)).confidence_interval
    return f"{statistic(*columns):+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Leave-one-out predictions of a ridge on standardised columns."""
    everything = np.arange(len(y))
    predictions = np.empty(len(y))
    for index in everything:
        rest = everything != index
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 12))).fit(x[rest], y[rest])
        predictions[index] = model.predict(x[index:index + 1])[0]
    return predictions


def latency_of(configs: list[FastViTConfig]) -> np.ndarray:
    """Milliseconds at 64 px, one thread, ONNX Runtime; measured here, from the cache where it holds them."""
    from tqdm import tqdm

    from nas.latency import measure

    return np.array([measure(config, "onnxruntime", resolution=64).latency_ms
                     for config in tqdm(configs, desc="latency", leave=False)])


def estimators(frame: pd.DataFrame, bench: pd.DataFrame, steps: int, task: str) -> dict[str, np.ndarray]:
    """What ranks: name and value for each configuration of `frame` (index: key)."""
    configs = frame["config"].tolist()
    sizes = [cost(config, 64) for config in configs]
    short = {seed: frame[f"seed {seed}"].to_numpy() for seed in (0, 1) if f"seed {seed}" in frame}
    found: dict[str, Any] = {
        "null: parameters": [s.params_m for s in sizes], "null: GMACs": [s.gmacs for s in sizes],
        "null: activations": [s.activations_m for s in sizes], "null: measured latency": frame["latency_ms"],
        "null: depth": [sum(c.depths) for c in configs], "null: sum of widths": [sum(c.widths) for c in configs],
        "null: fewer attention stages": [-sum(m == "attention" for m in c.mixers) for c in configs],
        "null: more attention stages": [sum(m == "attention" for m in c.mixers) for c in configs],
        f"one run, {steps} steps": short[0]}
    if 1 in short:
        found[f"mean of two runs, {steps} steps"] = (short[0] + short[1]) / 2
    x = np.array([np.concatenate([encode(c), size_features(c)]) for c in configs])
    truth = frame["truth"].to_numpy()
    found["null: ridge on log size (fitted to other long runs)"] = left_out(x[:, -3:], truth)
    found["ridge on encoding, no training signal (fitted to other long runs)"] = left_out(x, truth)
    found["prior and one run (ridge on encoding and score, fitted to other long runs)"] = left_out(
        np.column_stack([x, short[0]]), truth)
    found["size and one run (ridge on log size and score, fitted to other long runs)"] = left_out(
        np.column_stack([x[:, -3:], short[0]]), truth)
    zero = np.array([[sign_codes(c), synflow(c)] for c in configs])
    found |= {"null: sign codes (zero-cost)": zero[:, 0], "null: synflow (zero-cost)": zero[:, 1]}
    found["encoding and zero-cost scores (ridge, fitted to other long runs)"] = left_out(
        np.column_stack([x, zero]), truth)
    rows = [Evidence(FastViTConfig.from_dict(row.config), row.steps, row.score, row.score_sd)
            for row in bench[(bench.task == task) & (bench.seed == 0) & (bench.branches == 0)].itertuples()]
    model = Surrogate(steps).fit(rows)
    if model.ready:
        found["posterior mean (all short runs, own one included)"], _ = model.predict(configs)
        others = []
        for config in configs:
            rest = Surrogate(steps).fit([row for row in rows if row.config.key() != config.key()])
            others.append(rest.predict([config])[0][0])
        found["posterior without its own run"] = np.array(others)
    return {name: np.asarray(value, float) for name, value in found.items()}


def regret(frame: pd.DataFrame, ranks: np.ndarray) -> float:
    """Long-run score lost, on average over budgets, by taking the best configuration under each budget by `ranks`."""
    ms, truth = frame["latency_ms"].to_numpy(), frame["truth"].to_numpy()
    lost = []
    for budget in np.quantile(ms, np.linspace(0.2, 1, 9)):
        under = np.flatnonzero(ms <= budget)
        lost.append(truth[under].max() - truth[under[np.argmax(ranks[under])]])
    return float(np.mean(lost))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="builtin")
    parser.add_argument("--truth", default="shapes")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--long", type=int, default=1200)
    args = parser.parse_args()
    bench = read_bench()
    lean = bench[bench.branches == 0]
    short = lean[(lean.task == args.task) & (lean.steps == args.steps)].pivot_table(
        index="key", columns="seed", values="score")
    print(f"\n## Reliability: {args.task}, {args.steps} steps\n")
    both = short[[0, 1]].dropna() if 1 in short else short.iloc[:0]
    drawn = both[both.index.isin(lean[lean.preset.isna()].key)]
    if len(drawn) > 2:
        spread = float(np.sqrt(((drawn[0] - drawn[1])**2).mean() / 2))
        tau = with_interval(_tau, drawn[0].to_numpy(), drawn[1].to_numpy())
        print(f"{len(drawn)} configurations, 2 seeds: tau {tau}"
              f"; spread of one run {spread:.4f}, between configurations {drawn.mean(axis=1).std():.4f}")
    t8 = lean[(lean.preset == "t8") & (lean.task == args.task) & (lean.steps == args.steps)]
    if len(t8):
        print(f"CPU-seconds of a T8-deep proxy: {t8.cpu_seconds.min():.1f} (alone on a core; under load up to "
              f"{t8.cpu_seconds.max():.1f})")
    for rung in sorted(lean[lean.task == args.task].steps.unique()):
        at = lean[(lean.task == args.task) & (lean.steps == rung)].pivot_table(index="key", columns="seed",
                                                                             values="score")
        if 1 in at and len(pair := at[[0, 1]].dropna()) > 2:
            print(f"- {rung} steps: seed-to-seed tau {_tau(pair[0].to_numpy(), pair[1].to_numpy()):+.2f} "
                  f"({len(pair)} configurations)")

    runs = lean[(lean.task == args.truth) & (lean.steps == args.long)].pivot_table(
        index="key", columns="seed", values="score")
    configs = {row.key: FastViTConfig.from_dict(row.config) for row in lean.itertuples()}
    frame = pd.DataFrame({"truth": runs.mean(axis=1)}).join(short.add_prefix("seed ")).dropna(subset=["seed 0"])
    if frame.get("seed 1", pd.Series(dtype=float)).isna().any():
        frame = frame.drop(columns="seed 1")
    frame["config"] = [configs[key] for key in frame.index]
    frame["latency_ms"] = latency_of(frame["config"].tolist())
    bins = pd.qcut(frame["latency_ms"], BINS, labels=False).to_numpy()
    truth = frame["truth"].to_numpy()
    print(f"\n## Validity: against {args.long} steps on {args.truth} ({len(frame)} configurations, "
          f"{runs.shape[1]} seeds)\n")
    print("| estimator | tau, all pairs | tau inside latency bins | regret |\n|---|---|---|---|")
    found = estimators(frame, lean, args.steps, args.task)
    for name, values in found.items():
        overall = with_interval(lambda a, b: pairs_tau(a, b, None), values, truth)
        inside = with_interval(pairs_tau, values, truth, bins)
        print(f"| {name} | {overall} | {inside} | {regret(frame, values):.4f} |")
    random = np.mean([regret(frame, np.random.default_rng(seed).random(len(frame))) for seed in range(200)])
    print(f"| random choice | | | {random:.4f} |")

    print("\n## Ceiling\n")
    pair = runs[[0, 1]].dropna() if 1 in runs else runs.iloc[:0]
    if len(pair) > 2:
        a, b = pair[0].to_numpy(), pair[1].to_numpy()
        top = np.argsort(-(a + b))[:max(3, len(pair) // 10)]
        print(f"seed-to-seed tau of the long runs: {with_interval(_tau, a, b)}; in the top tenth ({len(top)}): "
              f"{_tau(a[top], b[top]):+.2f}")
    else:
        print("needs long runs of two seeds: python -m nas.bench make --task " + args.truth + " --seeds 1")

    print("\n## Calibration of the posterior (leave-out, 10 folds)\n")
    rows = [Evidence(FastViTConfig.from_dict(row.config), row.steps, row.score, row.score_sd)
            for row in lean[(lean.task == args.task) & (lean.seed == 0)].itertuples()]
    print({name: round(value, 3) for name, value in leave_out(rows, args.steps).items()})
    front = pareto(frame["latency_ms"], truth)
    print(f"\n{len(front)} of {len(frame)} configurations are on the long runs' front")


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(kendalltau(a, b).statistic)


if __name__ == "__main__":
    main()
