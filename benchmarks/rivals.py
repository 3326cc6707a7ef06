"""Searches of other projects on the same objective, for benchmarks/samplers.py; used where they are installed:
`pip install syne-tune archai` (archai also wants overrides, statopt and matplotlib)."""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import tempfile
from typing import Any

import numpy as np
from objectives import MEASURE_S, RUNGS, STEPS, Objective, Step, latency_ms, seconds, whole

from fastvit import FastViTConfig
from space import SearchSpace

SPACE = SearchSpace.load("default")


def moasha(objective: Objective, trials: int, budget_ms: float, seed: int) -> list[Step]:
    """syne-tune's MOASHA (Schmucker et al., 2021): random configurations, stopped at rungs by non-dominated sorting.

    Over the budget a trial is not trained, as in every search here.
    """
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    rng = np.random.default_rng(seed)
    np.random.seed(seed)  # what MOASHA draws from
    scheduler = MOASHA({d.name: choice(list(d.choices)) for d in SPACE.dimensions}, ["latency_ms", "loss"],
                       time_attr="rung", grace_period=1, max_t=len(RUNGS), reduction_factor=2, random_seed=seed)
    found = []
    for number in range(trials):
        suggestion = scheduler.suggest()
        config = SPACE.decode(suggestion.config)
        if latency_ms(config) > budget_ms:
            found.append(Step(config, False, MEASURE_S))
            continue
        trial = Trial(number, suggestion.config, datetime.datetime.now())
        scheduler.on_trial_add(trial)
        for rung, steps in enumerate(RUNGS, 1):
            result = {"rung": rung, "latency_ms": latency_ms(config), "loss": -objective.noisy(config, rng, steps)}
            if scheduler.on_trial_result(trial, result) == "STOP":
                break
        found.append(Step(config, steps == STEPS, MEASURE_S + seconds(config, steps)))
    return found


def archai(objective: Objective, trials: int, budget_ms: float, seed: int) -> list[Step]:
    """microsoft/archai's EvolutionParetoSearch with its constraint on latency; mutation changes one dimension."""
    from archai.discrete_search.algos.evolution_pareto import EvolutionParetoSearch
    from archai.discrete_search.api.archai_model import ArchaiModel
    from archai.discrete_search.api.model_evaluator import ModelEvaluator
    from archai.discrete_search.api.search_objectives import SearchObjectives
    from archai.discrete_search.api.search_space import EvolutionarySearchSpace

    def overrides(method: Any) -> Any:  # the mark that archai checks; the package's own fails on local classes
        method.__override__ = True
        return method

    rng = np.random.default_rng(seed)
    found: list[Step] = []
    known: dict[str, FastViTConfig] = {}

    def model(config: FastViTConfig) -> Any:
        known[config.key()] = config
        return ArchaiModel(arch=None, archid=config.key())

    def changed(params: dict[str, Any]) -> Any:
        dimension = SPACE.dimensions[rng.integers(len(SPACE.dimensions))]
        return model(SPACE.decode(params | {dimension.name: dimension.choices[rng.integers(len(dimension.choices))]}))

    class Space(EvolutionarySearchSpace):  # type: ignore[misc]
        @overrides
        def random_sample(self) -> Any:
            return model(SPACE.sample(rng))

        @overrides
        def mutate(self, arch: Any) -> Any:
            return changed(SPACE.encode(known[arch.archid]))

        @overrides
        def crossover(self, arch_list: list[Any]) -> Any:
            one, other = (SPACE.encode(known[arch.archid]) for arch in arch_list)
            names = {d.name: d.choices[0] for d in SPACE.dimensions} | one | other
            return model(SPACE.decode({n: (one if rng.random() < 0.5 else other).get(n, v) for n, v in names.items()}))

        @overrides
        def save_arch(self, model: Any, path: str) -> None: ...
        @overrides
        def load_arch(self, path: str) -> Any: ...
        @overrides
        def save_model_weights(self, model: Any, path: str) -> None: ...
        @overrides
        def load_model_weights(self, model: Any, path: str) -> None: ...

    class Latency(ModelEvaluator):  # type: ignore[misc]
        @overrides
        def evaluate(self, arch: Any, budget: float | None = None) -> float:
            return latency_ms(known[arch.archid])

    class Score(ModelEvaluator):  # type: ignore[misc]
        @overrides
        def evaluate(self, arch: Any, budget: float | None = None) -> float:
            config = known[arch.archid]
            found.append(whole(config, budget_ms))
            return objective.noisy(config, rng)

    goals = SearchObjectives()
    goals.add_objective("latency_ms", Latency(), higher_is_better=False, compute_intensive=False,
                        constraint=(0.0, budget_ms))
    goals.add_objective("score", Score(), higher_is_better=True)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        search = EvolutionParetoSearch(Space(), goals, folder, num_iters=1 + trials // 5, init_num_models=10,
                                       num_random_mix=3, max_unseen_population=10, num_crossovers=3,
                                       save_pareto_model_weights=False, seed=seed)
        search.search_state.save_all_2d_pareto_evolution_plots = lambda *_: None  # a picture each iteration
        search.search()
    logging.disable(logging.NOTSET)
    return found[:trials]
