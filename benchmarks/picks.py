"""What each estimator would pick at the latency of T8, and what the pick is worth after a long run on another task.

    python benchmarks/picks.py [--picks 2] [--truth shapes] [--long 1200]

Ranks of drawn configurations do not say what happens at the best of thousands, where an estimator's own mistakes are
sought out. Here thousands of configurations of the default space, predicted within 5 % of T8's latency, are ranked by
the posterior of the short runs, by the law of long runs, by both and by the nulls; the best by each (which differ in at
least four choices) are trained on the other task beside T8. Fitted to FastViT-Bench; one seed; resumable.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from fidelity import latency_ms, ridge

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.bench.table import read_bench
from nas.data import Task, load_task
from nas.estimate.surrogate import Surrogate, encode, shipped_evidence, size_features
from nas.files import cache_folder
from nas.latency.predictor import Predictor, Setting
from nas.proxy.recipe import ALONE, RUNGS
from nas.proxy.train import Trainer
from space import SearchSpace

STEPS, RESOLUTION, NEAR = RUNGS[-1], 64, 0.05


def near_t8(count: int, measured: list[FastViTConfig]) -> list[FastViTConfig]:
    """Random configurations within NEAR of T8's latency, as predicted from those that were measured."""
    predictor = Predictor("onnxruntime", Setting(RESOLUTION))
    predictor.fit(measured, [latency_ms(config) for config in measured])
    target = latency_ms(PRESETS["t8"])
    space, rng = SearchSpace.load("default"), np.random.default_rng(0)
    found: dict[str, FastViTConfig] = {}
    while len(found) < count:
        drawn = [space.sample(rng) for _ in range(2000)]
        ms, _ = predictor.predict(drawn)
        found |= {c.key(): c for c, one in zip(drawn, ms, strict=True) if abs(one / target - 1) < NEAR}
    return list(found.values())[:count]


def best(configs: list[FastViTConfig], values: np.ndarray, picks: int) -> list[FastViTConfig]:
    """The highest `picks` that differ from one another in at least four choices."""
    chosen: list[FastViTConfig] = []
    for index in np.argsort(-values):
        if all(np.sum(encode(configs[index]) != encode(other)) >= 4 for other in chosen):
            chosen.append(configs[index])
        if len(chosen) == picks:
            break
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=3000)
    parser.add_argument("--picks", type=int, default=2)
    parser.add_argument("--truth", default="shapes")
    parser.add_argument("--long", type=int, default=1200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = read_bench()
    lean = bench[(bench.recipe == ALONE) & (bench.branches == 0) & bench.preset.isna()]
    short = Surrogate(STEPS).fit([row for row in shipped_evidence(load_task("builtin").fingerprint)
                                  if row.steps <= STEPS])
    long = lean[(lean.task == args.truth) & (lean.steps == args.long)]
    fitted = [FastViTConfig.from_dict(config) for config in long.config]

    def features(configs: list[FastViTConfig], *, signal: bool) -> np.ndarray:
        sizes = np.array([size_features(config) for config in configs])
        return np.column_stack([sizes, short.predict(configs)[0]]) if signal else sizes

    pool = near_t8(args.pool, fitted + list(PRESETS.values()))
    ranks = {"posterior of short runs": short.predict(pool)[0]}
    for name, signal in (("law of long runs and posterior", True), ("law of long runs", False)):
        law = ridge().fit(features(fitted, signal=signal), long.score)
        ranks[name] = law.predict(features(pool, signal=signal))
    ranks |= {"null: activations": np.array([cost(c, RESOLUTION).activations_m for c in pool]),
              "null: GMACs": np.array([cost(c, RESOLUTION).gmacs for c in pool]),
              "null: random": np.random.default_rng(1).random(len(pool))}
    task = load_task(args.truth)
    print(f"{len(pool)} configurations within {100 * NEAR:.0f} % of T8's latency; law from {len(fitted)} long runs\n")
    print(f"| picked by | latency, ms | depths | widths | {args.long} steps on {args.truth} |\n|---|---|---|---|---|")
    chosen = {name: best(pool, values, args.picks) for name, values in ranks.items()} | {"T8": [PRESETS["t8"]]}
    for name, config in ((name, config) for name, configs in chosen.items() for config in configs):
        print(f"| {name} | {latency_ms(config):.2f} | {config.depths} | {config.widths} | "
              f"{trained(config, task, args.long):.3f} |", flush=True)


def trained(config: FastViTConfig, task: Task, steps: int) -> float:
    path = cache_folder("picks") / f"{config.key()}-{task.name}-{steps}.pt"
    trainer = Trainer(config, task)
    trainer.load(path)
    if trainer.step < steps:
        trainer.to(steps)
        trainer.save(path)
    return trainer.evaluate().score


if __name__ == "__main__":
    main()
