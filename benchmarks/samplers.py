"""Which sampler finds most hypervolume under a budget, by number of trials.

    python benchmarks/samplers.py [--trials 100] [--seeds 3] [--budget-ms 2]

The objective is replayed, so that a comparison costs seconds: latency from a law of GMACs, activations and depth;
the score from extremely randomised trees fitted to FastViT-Bench's short runs ("replay"), or an analytic toy
("toy"), each with the noise of one run. Hypervolume is that of the noise-free scores of what was evaluated, as a
share of what 20,000 random configurations and 3,000 steps of local search reach together.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna

from fastvit import FastViTConfig
from fastvit.cost import cost
from nas.bench.table import read_rows
from nas.front import hypervolume
from nas.propose import Proposer
from nas.run import TrialRecord
from nas.surrogate import encode, size_features
from nas.worker import sampler
from space import SearchSpace

SPACE = SearchSpace.load("default")
STEPS = 240
CHECKPOINTS = (15, 25, 50, 100, 200)
Objective = Callable[[FastViTConfig], float]


def latency_ms(config: FastViTConfig) -> float:
    size = cost(config, 64)
    return 0.25 + 16 * size.gmacs + 0.35 * size.activations_m + 0.015 * sum(config.depths)


def toy(config: FastViTConfig) -> float:
    """Saturating in size, a best place for width and depth between stages, gains from kernels and attention."""
    size = cost(config, 64)
    balance = np.std(np.diff(np.log2(config.widths))) + 0.3 * abs(np.log2(config.depths[2] / 8))
    return float(0.9 - 0.12 * size.gmacs**-0.35 - 0.05 * balance + 0.01 * sum(k == 7 for k in config.ffn_kernels)
                 + 0.02 * (config.mixers[3] == "attention") - 0.01 * (config.mixers[2] == "attention"))


def replay() -> Objective:
    from sklearn.ensemble import ExtraTreesRegressor

    rows = [row for row in read_rows() if row["task"] == "builtin" and row["steps"] == STEPS]
    configs = [FastViTConfig.from_dict(row["config"]) for row in rows]
    x = np.array([np.concatenate([encode(c), size_features(c)]) for c in configs])
    trees = ExtraTreesRegressor(300, min_samples_leaf=2, random_state=0).fit(x, [row["score"] for row in rows])
    return lambda c: float(trees.predict([np.concatenate([encode(c), size_features(c)])])[0])


def run(name: str, objective: Objective, trials: int, budget_ms: float, seed: int, noise: float) -> list[FastViTConfig]:
    """The configurations that a search evaluates, in their order."""
    rng = np.random.default_rng(seed)

    def predict(configs: Any) -> np.ndarray:
        return np.array([latency_ms(config) for config in configs])

    if name == "surrogate (ours)":
        proposer, records = Proposer(SPACE, STEPS, budget_ms, rng), []
        for trial in range(trials):
            config = proposer.next(records, predict)
            assert config is not None
            records.append(TrialRecord(
                trial=trial, outcome="complete", config=config.to_dict(), config_key=config.key(),
                latency={"latency_ms": latency_ms(config), "origin": "measured"},
                scores=[{"step": STEPS, "score": objective(config) + noise * rng.standard_normal()}]))
        return [FastViTConfig.from_dict(r.config) for r in records]
    samplers = {"TPE, Optuna's default": lambda: optuna.samplers.TPESampler(seed=seed),
                "TPE multivariate, grouped": lambda: sampler("tpe", seed), "NSGA-II": lambda: sampler("nsga2", seed),
                "GPSampler": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=12),
                "random": lambda: sampler("random", seed),
                "random within reach": lambda: sampler("random", seed)}
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=samplers[name]())
    if name == "random within reach":
        proposer = Proposer(SPACE, STEPS, budget_ms, rng)
    found = []
    for _ in range(trials):
        if name == "random within reach" and (config := proposer.random(predict, set())) is not None:
            study.enqueue_trial(SPACE.encode(config))
        trial = study.ask()
        config = SPACE.suggest(trial)
        found.append(config)
        ms = latency_ms(config)
        trial.set_constraint("latency_ms", ms - budget_ms)
        study.tell(trial, [ms, objective(config) + noise * rng.standard_normal()])
    return found


def reached(configs: list[FastViTConfig], objective: Objective, budget_ms: float, floor: float) -> float:
    return hypervolume([latency_ms(c) for c in configs], [objective(c) for c in configs], budget_ms=budget_ms,
                       score_floor=floor)


def best_known(objective: Objective, budget_ms: float, floor: float) -> float:
    """Hypervolume after random draws and local search on the noise-free objective."""
    rng = np.random.default_rng(0)
    proposer = Proposer(SPACE, STEPS, budget_ms, rng)
    pool = [config for config in (SPACE.sample(rng) for _ in range(6000)) if latency_ms(config) <= budget_ms]
    from nas.front import pareto
    for _ in range(40):
        ms, score = [latency_ms(c) for c in pool], [objective(c) for c in pool]
        front = [pool[i] for i in pareto(ms, score)]
        pool = front + [c for c in (proposer.mutated(front[rng.integers(len(front))]) for _ in range(150))
                        if latency_ms(c) <= budget_ms]
    return reached(pool, objective, budget_ms, floor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget-ms", type=float, default=2.0)
    parser.add_argument("--noise", type=float, default=0.006, help="standard deviation of one run's score")
    parser.add_argument("--objectives", default="replay,toy")
    parser.add_argument("--gp", action="store_true", help="Optuna's GPSampler too: seconds an ask")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    names = ["random", "random within reach", "TPE, Optuna's default", "TPE multivariate, grouped", "NSGA-II",
             "surrogate (ours)", *(["GPSampler"] if args.gp else [])]
    marks = [n for n in CHECKPOINTS if n <= args.trials]
    for kind in args.objectives.split(","):
        raw = toy if kind == "toy" else replay()
        memory: dict[str, float] = {}

        def objective(config: FastViTConfig, raw: Objective = raw, memory: dict[str, float] = memory) -> float:
            key = config.key()
            if key not in memory:
                memory[key] = raw(config)
            return memory[key]

        rng = np.random.default_rng(0)
        floor = float(np.quantile([objective(SPACE.sample(rng)) for _ in range(300)], 0.02))
        best = best_known(objective, args.budget_ms, floor)
        print(f"\n{kind}: share of the best known hypervolume after N trials, mean of {args.seeds} seeds "
              f"(budget {args.budget_ms:g} ms, noise {args.noise:g})\n")
        print("| sampler | " + " | ".join(map(str, marks)) + " | seconds a trial |")
        print("|---|" + "---|" * (len(marks) + 1))
        for name in names:
            begun = time.perf_counter()
            shares = []
            for seed in range(args.seeds):
                found = run(name, objective, args.trials, args.budget_ms, seed, args.noise)
                shares.append([reached(found[:mark], objective, args.budget_ms, floor) / best for mark in marks])
            spent = (time.perf_counter() - begun) / args.seeds / args.trials
            print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in np.mean(shares, 0)) + f" | {spent:.3f} |",
                  flush=True)


if __name__ == "__main__":
    main()
