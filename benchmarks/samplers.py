"""Which search finds most hypervolume under a budget, by number of trials and by simulated minutes.

    python benchmarks/samplers.py [--trials 100] [--seeds 3] [--budget-ms 2] [--objectives replay,toy]

The objective is replayed, so that a comparison costs minutes (benchmarks/objectives.py): latency from a law of GMACs,
activations and depth; the score from trees fitted to FastViT-Bench ("replay"), or an analytic toy ("toy"), with the
noise of one run. Hypervolume is that of the noise-free scores of what was trained to the end, as a share of the best
known. Minutes are those of one worker; all searches skip the training of what is over the budget, ours and MOASHA
also end trials at rungs. Searches of other projects take part where they are installed (benchmarks/rivals.py).
"surrogate, scores ship" takes part only by name: it knows the rows that the trees were fitted to.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import optuna
import rivals
from objectives import MEASURE_S, RUNGS, STEPS, Objective, Step, latency_ms, seconds, whole

from fastvit import FastViTConfig
from nas.data import load_task
from nas.estimate.surrogate import Evidence, shipped_evidence
from nas.runs.measurement import Measurement, Origin
from nas.runs.trial import Outcome, Rung, Trial, with_rung
from nas.search.early_stopping import dominated
from nas.search.pareto import hypervolume, pareto
from nas.search.proposer import Proposer
from nas.workers.chooser import sampler
from space import SearchSpace

SPACE = SearchSpace.load("default")
TRIALS = (5, 15, 25, 50, 100, 200)
MINUTES = (3, 6, 12, 24)
OURS, WITHOUT_RUNGS = "surrogate (ours)", "surrogate, no early end"
RANDOM_START, SHIPPED = "surrogate, random start", "surrogate, scores ship"
OPTUNA = ("random", "random within reach", "TPE, Optuna's default", "TPE multivariate, grouped", "NSGA-II", "GPSampler")
OTHERS = {"syne-tune MOASHA": rivals.moasha, "archai evolution": rivals.archai}


def predict(configs: Sequence[FastViTConfig]) -> np.ndarray:
    return np.array([latency_ms(config) for config in configs])


def ours(objective: Objective, trials: int, budget_ms: float, seed: int, *, rungs: bool = True, warm: bool = True,
         prior: Sequence[Evidence] = ()) -> list[Step]:
    rng = np.random.default_rng(seed)
    proposer, found = Proposer(SPACE, STEPS, budget_ms, rng, prior=prior), []
    trials_so_far: list[Trial] = []
    if not warm:
        proposer.warm_start = proposer.random  # type: ignore[method-assign]
    for number in range(trials):
        config = proposer.next(trials_so_far, predict)
        assert config is not None
        ms = latency_ms(config)
        trial = Trial(number, config=config, latency=Measurement(
            "", config.key(), "a formula", Origin.MEASURED, 64, ms, ms, ms))
        for steps in RUNGS if rungs else (STEPS,):
            value = objective.noisy(config, rng, steps)
            trial = replace(with_rung(trial, Rung(steps, value)), score=value)
            if steps < STEPS and dominated(trial, trials_so_far, proposer.surrogate, prior):
                break
        trials_so_far.append(replace(trial, outcome=Outcome.COMPLETE if steps == STEPS else Outcome.STOPPED_EARLY))
        found.append(Step(config, steps == STEPS, MEASURE_S + seconds(config, steps)))
    return found


def optunas(name: str, objective: Objective, trials: int, budget_ms: float, seed: int) -> list[Step]:
    rng = np.random.default_rng(seed)
    made = {"TPE, Optuna's default": lambda: optuna.samplers.TPESampler(seed=seed),
            "TPE multivariate, grouped": lambda: sampler("tpe", seed), "NSGA-II": lambda: sampler("nsga2", seed),
            "GPSampler": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=12)}
    study = optuna.create_study(directions=["minimize", "maximize"],
                                sampler=made.get(name, lambda: sampler("random", seed))())
    proposer, found = Proposer(SPACE, STEPS, budget_ms, rng), []
    for _ in range(trials):
        if name == "random within reach" and (config := proposer.random(predict, set())) is not None:
            study.enqueue_trial(SPACE.encode(config))
        trial = study.ask()
        config = SPACE.suggest(trial)
        found.append(whole(config, budget_ms))
        trial.set_constraint("latency_ms", latency_ms(config) - budget_ms)
        study.tell(trial, [latency_ms(config), objective.noisy(config, rng)])
    return found


def search(name: str, objective: Objective, trials: int, budget_ms: float, seed: int) -> list[Step]:
    if name in OTHERS:
        return OTHERS[name](objective, trials, budget_ms, seed)
    if name == SHIPPED:
        return ours(objective, trials, budget_ms, seed, prior=shipped_evidence(load_task("builtin").fingerprint))
    if name in (OURS, WITHOUT_RUNGS, RANDOM_START):
        return ours(objective, trials, budget_ms, seed, rungs=name != WITHOUT_RUNGS, warm=name != RANDOM_START)
    return optunas(name, objective, trials, budget_ms, seed)


def reached(configs: Sequence[FastViTConfig], objective: Objective, budget_ms: float, floor: float) -> float:
    return hypervolume([latency_ms(c) for c in configs], [objective.score(c) - floor for c in configs],
                       budget_ms=budget_ms)


def best_known(objective: Objective, budget_ms: float, floor: float) -> float:
    """Hypervolume after random draws and local search on the noise-free objective."""
    rng = np.random.default_rng(0)
    proposer = Proposer(SPACE, STEPS, budget_ms, rng)
    pool = [config for config in (SPACE.sample(rng) for _ in range(4000)) if latency_ms(config) <= budget_ms]
    for _ in range(40):
        on_front = pareto([latency_ms(c) for c in pool], [objective.score(c) for c in pool])
        front = [pool[i] for i in on_front]
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
    parser.add_argument("--searches", help="names with | between (default: all but GPSampler, which asks slowly)")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    names = args.searches.split("|") if args.searches else [
        *OPTUNA[:-1], *OTHERS, WITHOUT_RUNGS, RANDOM_START, OURS]
    marks = [n for n in TRIALS if n <= args.trials]
    for kind in args.objectives.split(","):
        objective = Objective(kind, args.noise)
        rng = np.random.default_rng(0)
        floor = float(np.quantile([objective.score(SPACE.sample(rng)) for _ in range(300)], 0.02))
        best = best_known(objective, args.budget_ms, floor)
        print(f"\n{kind}: share of the best known hypervolume, mean of {args.seeds} seeds ± their spread "
              f"(budget {args.budget_ms:g} ms, noise {args.noise:g})\n")
        print("| search | " + " | ".join(f"{n} trials" for n in marks) + " | "
              + " | ".join(f"{m} min" for m in MINUTES) + " | CPU s a trial |")
        print("|---|" + "---|" * (len(marks) + len(MINUTES) + 1), flush=True)
        for name in names:
            begun, shares = time.process_time(), []
            try:
                for seed in range(args.seeds):
                    found = search(name, objective, args.trials, args.budget_ms, seed)
                    ends = np.cumsum([step.seconds for step in found]) / 60
                    counts = [*marks, *(int((ends <= minutes).sum()) for minutes in MINUTES)]
                    shares.append([reached([s.config for s in found[:count] if s.scored], objective, args.budget_ms,
                                           floor) / best for count in counts])
            except ImportError as error:
                print(f"| {name} | not installed: {error.name} |", flush=True)
                continue
            spent = (time.process_time() - begun) / args.seeds / args.trials
            spread = np.std(shares, 0, ddof=1) if len(shares) > 1 else np.zeros(len(shares[0]))
            print(f"| {name} | " + " | ".join(f"{share:.2f} ± {sd:.2f}" for share, sd in
                                              zip(np.mean(shares, 0), spread, strict=True)) + f" | {spent:.2f} |",
                  flush=True)


if __name__ == "__main__":
    main()
