"""What the score is worth: reliability, validity against long runs on another task, nulls, ceiling, regret.

    python benchmarks/fidelity.py [--task builtin] [--truth shapes] [--steps 120] [--long 1200]

Everything is read from FastViT-Bench (nas/bench/), so that it repeats in a minute; `python -m nas.bench make` extends
the table. Truth is what runs of many steps from random weights score on a task that no short run saw, or, with
`--truth builtin`, on the same task, where a part of the truth of short runs from random weights is how they went on
themselves, which favours them. Whatever is fitted is judged on configurations that it was not fitted to
(leave-one-out). Ranks are Kendall's tau-b; "inside bins" compares only pairs of configurations in the same bin of
latency; intervals are 95 % bootstraps over configurations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, kendalltau
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm
from zero_cost import sign_codes, synflow

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.bench.table import lean_rows, read_bench
from nas.estimate.long_run import features, fit_law, pairs, z_scores
from nas.estimate.surrogate import Evidence, Surrogate, bench_evidence, encode, leave_out, size_features
from nas.latency import measure
from nas.proxy.recipe import ALONE, ONE_PARENT, RECIPE
from nas.search.pareto import pareto

BINS = 5
RESAMPLES = 2000


def pairs_tau(x: np.ndarray, y: np.ndarray, same_bin: np.ndarray | None) -> float:
    """Kendall's tau-a over the pairs that count: concordant minus discordant, as a share of them."""
    i, j = np.triu_indices(len(x), 1)
    counts = (x[i] != x[j]) | (y[i] != y[j])  # a bootstrap draws a configuration twice, which says nothing of ranks
    if same_bin is not None:
        counts &= same_bin[i] == same_bin[j]
    agree = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
    return float(agree[counts].mean()) if counts.any() else np.nan


def with_interval(statistic: Callable[..., float], *columns: np.ndarray) -> str:
    """The statistic and its bootstrap interval over configurations."""
    found = bootstrap(columns, lambda *picked: statistic(*picked), paired=True, vectorized=False, method="percentile",
                      n_resamples=RESAMPLES, rng=np.random.default_rng(0)).confidence_interval
    return f"{statistic(*columns):+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def ridge() -> Pipeline:
    """On standardised columns, its penalty by cross-validation."""
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 12)))


def left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Leave-one-out predictions of a ridge."""
    everything = np.arange(len(y))
    predictions = np.empty(len(y))
    for index in everything:
        rest = everything != index
        predictions[index] = ridge().fit(x[rest], y[rest]).predict(x[index:index + 1])[0]
    return predictions


def latency_of(configs: list[FastViTConfig]) -> np.ndarray:
    """Milliseconds at 64 px, one thread, ONNX Runtime; measured here, from the cache where it holds them."""
    return np.array([latency_ms(config) for config in tqdm(configs, desc="latency", leave=False)])


def latency_ms(config: FastViTConfig) -> float:
    return measure(config, "onnxruntime", resolution=64).latency_ms


def short_rows(task: str, steps: int, seed: int | None = None) -> list[Evidence]:
    """Every run of drawn configurations on the proxy's task, up to `steps` steps; of one seed, or of all."""
    return bench_evidence([row for row in lean_rows(RECIPE) if row["task"] == task and row["steps"] <= steps
                           and seed in (None, row["seed"])])


def law_of_others(configs: list[FastViTConfig], task: str, stands: np.ndarray | None) -> list[float]:
    """The law of long runs, fitted for each configuration to others on the other task."""
    return [fit_law([p for p in pairs() if p.task != task and p.config != config], short=stands is not None).predict(
        features([config], None if stands is None else stands[at:at + 1]))[0] for at, config in enumerate(configs)]


def estimators(frame: pd.DataFrame, rows: list[Evidence], steps: int, truth_task: str) -> dict[str, np.ndarray]:
    """What ranks: name and value for each configuration of `frame` (index: key); `rows` are all short runs."""
    configs = frame["config"].tolist()
    sizes = [cost(config, 64) for config in configs]
    attention = np.array([sum(mixer == "attention" for mixer in config.mixers) for config in configs])
    found: dict[str, Any] = {
        "null: parameters": [s.params_m for s in sizes], "null: GMACs": [s.gmacs for s in sizes],
        "null: activations": [s.activations_m for s in sizes], "null: measured latency": frame["latency_ms"],
        "null: depth": [sum(c.depths) for c in configs], "null: sum of widths": [sum(c.widths) for c in configs],
        "null: fewer attention stages": -attention, "null: more attention stages": attention,
        "null: sign codes (zero-cost)": [sign_codes(c) for c in configs],
        "null: synflow (zero-cost)": [synflow(c) for c in configs]}
    size = np.array([size_features(c) for c in configs])
    x = np.array([encode(c) for c in configs])
    zero = np.column_stack([found["null: sign codes (zero-cost)"], found["null: synflow (zero-cost)"]])
    truth = frame["truth"].to_numpy()
    found["null: ridge on log size (fitted to other long runs)"] = left_out(size, truth)
    found["null: ridge on size and encoding (fitted to other long runs)"] = left_out(np.hstack([size, x]), truth)
    found["null: ridge on size and zero-cost scores (fitted to other long runs)"] = left_out(
        np.hstack([size, zero]), truth)
    found |= {name: frame[name] for name in frame if name.startswith("one run")}
    found["null: law of size (the other task's long runs)"] = law_of_others(configs, truth_task, None)
    model = Surrogate(steps).fit(rows)
    if model.ready:
        posterior = model.predict(configs)[0]
        found["posterior (short runs only)"] = posterior
        found["long run as estimated (law of size and posterior, the other task's long runs)"] = law_of_others(
            configs, truth_task, z_scores(model, configs, configs))
        found["posterior without its own runs"] = [
            Surrogate(steps).fit([row for row in rows if row.config.key() != config.key()]).predict([config])[0][0]
            for config in configs]
        found["prior: ridge on size and posterior (fitted to other long runs)"] = left_out(
            np.column_stack([size, posterior]), truth)
        found["prior: ridge on size, encoding and posterior (fitted to other long runs)"] = left_out(
            np.column_stack([size, x, posterior]), truth)
    return {name: np.asarray(value, float) for name, value in found.items()}


def regret(frame: pd.DataFrame, ranks: np.ndarray) -> float:
    """Long-run score lost, on average over budgets, by taking the best configuration under each budget by `ranks`."""
    ms, truth = frame["latency_ms"].to_numpy(), frame["truth"].to_numpy()
    lost = []
    for budget in np.quantile(ms, np.linspace(0.2, 1, 9)):
        under = np.flatnonzero(ms <= budget)
        lost.append(truth[under].max() - truth[under[np.argmax(ranks[under])]])
    return float(np.mean(lost))


def reliability(lean: pd.DataFrame, task: str, steps: int, form: str) -> None:
    print(f"\n## Reliability on {task}: drawn configurations, {form}\n")
    print("| steps | configurations | seeds | seed-to-seed tau | spread of one run | between configurations |")
    print("|---" * 6 + "|")
    for rung in sorted(lean[lean.task == task].steps.unique()):
        at = lean[(lean.task == task) & (lean.steps == rung) & lean.preset.isna()].pivot_table(
            index="key", columns="seed", values="score")
        for seeds in combinations(sorted(at), 2):
            both = at[list(seeds)].dropna()
            if len(both) > 2:
                a, b = (both[seed].to_numpy() for seed in seeds)
                print(f"| {rung} | {len(both)} | {seeds[0]}, {seeds[1]} | {with_interval(_tau, a, b)} | "
                      f"{(a - b).std() / 2**0.5:.4f} | {(a + b).std() / 2:.4f} |")
    presets = lean[(lean.task == task) & (lean.steps == steps) & (lean.seed == 0)].dropna(subset="preset")
    if len(presets):
        presets = presets.set_index("preset").loc[list(PRESETS)]
        print(f"\nPresets, one run of {steps} steps: {' '.join(f'{score:.3f}' for score in presets.score)}; tau with "
              f"their published order {_tau(presets.score.to_numpy(), np.arange(len(presets))):+.2f}. "
              f"CPU-seconds of T8's proxy: {presets.cpu_seconds['t8']:.1f}")


def forms(alone: pd.DataFrame, task: str, steps: int) -> None:
    own = alone[(alone.task == task) & (alone.steps == steps) & (alone.seed == 0)]
    if own.branches.nunique() < 2:
        return
    both = own.pivot_table(index="key", columns="branches", values=["score", "cpu_seconds"]).dropna()
    if len(both) > 2:
        lean, over = both["score"][0].to_numpy(), both["score"][1].to_numpy()
        print(f"\n## Lean against over-parameterized, {steps} steps, {len(both)} configurations\n")
        print(f"tau of their scores {with_interval(_tau, lean, over)}; the over-parameterized form takes "
              f"{(both['cpu_seconds'][1] / both['cpu_seconds'][0]).median():.2f} times the CPU-seconds")


def validity(frame: pd.DataFrame, found: dict[str, np.ndarray]) -> None:
    truth = frame["truth"].to_numpy()
    bins = pd.qcut(frame["latency_ms"], BINS, labels=False).to_numpy()
    print("| estimator | tau, all pairs | tau inside latency bins | regret |\n|---|---|---|---|")
    for name, values in found.items():
        overall = with_interval(lambda a, b: pairs_tau(a, b, None), values, truth)
        inside = with_interval(pairs_tau, values, truth, bins)
        print(f"| {name} | {overall} | {inside} | {regret(frame, values):.4f} |")
    random = np.mean([regret(frame, np.random.default_rng(seed).random(len(frame))) for seed in range(200)])
    print(f"| random choice | | | {random:.4f} |")

    best = [name for name in found if name.startswith(("posterior (", "long run as"))]
    print("\nInside bins, tau minus the null's tau:\n\n| | " + " | ".join(best) + " |\n|---" + "|---" * len(best) + "|")
    for null in (name for name in found if name.startswith("null")):
        cells = [with_interval(lambda a, b, t, g: pairs_tau(a, t, g) - pairs_tau(b, t, g),
                               found[name], found[null], truth, bins) for name in best]
        print(f"| {null} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="builtin")
    parser.add_argument("--truth", default="shapes")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--long", type=int, default=1200)
    args = parser.parse_args()
    bench = read_bench()
    proxies, alone = (bench[bench.recipe == recipe] for recipe in (RECIPE, ALONE))
    reliability(proxies, args.task, args.steps, "each seed from a parent of its own")
    one = pd.concat([proxies[proxies.seed == 0], bench[bench.recipe == ONE_PARENT]])
    reliability(one[one.preset.isna()], args.task, args.steps, "both seeds from one parent")
    reliability(alone[(alone.branches == 0) & alone.preset.isna()], args.task, 2 * args.steps, "from random weights")
    forms(alone, args.task, 2 * args.steps)

    alone = alone[alone.branches == 0]
    runs = alone[(alone.task == args.truth) & (alone.steps == args.long) & alone.preset.isna()].pivot_table(
        index="key", columns="seed", values="score")
    configs = {row.key: FastViTConfig.from_dict(row.config) for row in bench.itertuples()}
    rows = short_rows(args.task, args.steps)
    frame = pd.DataFrame({"truth": runs.mean(axis=1)})
    for own, seed, form, most in ((proxies, 0, "", args.steps), (alone, 1, " from random weights", 2 * args.steps)):
        own = own[(own.task == args.task) & (own.seed == seed) & (own.steps <= most)]
        short = own.pivot_table(index="key", columns="steps", values="score")
        frame = frame.join(short.rename(columns=lambda steps, form=form: f"one run{form}, {steps} steps"))
    frame = frame.dropna(axis=1)  # what only some were trained for is left out
    frame["config"] = [configs[key] for key in frame.index]
    frame["latency_ms"] = latency_of(frame["config"].tolist())
    counts = runs.loc[frame.index].notna().sum(axis=1).value_counts()
    trained = len({row.config for row in rows})
    print(f"\n## Validity: {args.steps} steps on {args.task} against {args.long} steps on {args.truth}\n")
    print(f"{len(frame)} drawn configurations ({', '.join(f'{n} with {seeds} seeds' for seeds, n in counts.items())}); "
          f"the posterior knows the short runs of {trained}\n")
    validity(frame, estimators(frame, rows, args.steps, args.truth))

    print("\n## Ceiling\n")
    whole = runs.dropna(axis=1, thresh=2 * BINS).dropna()  # without a seed that only few have
    if whole.shape[1] > 1 and len(whole) >= 2 * BINS:
        seeds = whole.to_numpy().T
        top = np.argsort(-seeds.sum(0))[:max(3, len(whole) // 10)]
        bins = pd.qcut(latency_of([configs[key] for key in whole.index]), BINS, labels=False)
        print(f"{len(whole)} configurations, {len(seeds)} seeds: seed-to-seed tau of the long runs "
              f"{with_interval(seed_to_seed, *seeds, np.zeros(len(whole)))}, inside latency bins "
              f"{with_interval(seed_to_seed, *seeds, bins)}; in the top tenth ({len(top)}): "
              f"{seed_to_seed(*seeds[:, top], np.zeros(len(top))):+.2f}")
    else:
        print("needs long runs of two seeds: python -m nas.bench make --task " + args.truth + " --seeds 1")

    print("\n## Calibration of the posterior (leave-out, 10 folds)\n")
    single = short_rows(args.task, args.steps, int(proxies[proxies.task == args.task].seed.min()))
    print({name: round(value, 3) for name, value in leave_out(single, args.steps).items()})
    front = pareto(frame["latency_ms"], frame["truth"])
    print(f"\n{len(front)} of {len(frame)} configurations are on the long runs' front")


def seed_to_seed(*columns: np.ndarray) -> float:
    """The mean tau of any two seeds' scores, inside the bins that the last of `columns` holds."""
    *seeds, bins = columns
    return float(np.mean([pairs_tau(a, b, bins) for a, b in combinations(seeds, 2)]))


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(kendalltau(a, b).statistic)


if __name__ == "__main__":
    main()
