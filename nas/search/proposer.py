"""Which configuration to try next: surrogate-assisted proposals, after a few drawn ones where nothing is known yet.

As in LINAS (Cummings et al., 2022), thousands of cheap predictions stand before one expensive evaluation:
candidates are bred from the front and from the space, and the one that is expected to add most hypervolume, by the
surrogate's posterior of its score and at its predicted latency, is evaluated. Each worker breeds candidates of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.estimate.judge import Judge
from nas.estimate.surrogate import SIZE_RESOLUTION, Evidence, Surrogate, evidence
from nas.runs.trial import Outcome, Trial
from nas.search.pareto import pareto
from space import SearchSpace

STARTUP_TRIALS = 8  # drawn within reach of the budget before the surrogate decides, where nothing ships that it knows
CANDIDATES = 100  # bred for each proposal
KEPT = 100  # the best candidates of the proposal before, which compete again
REFIT_AT = 1.25  # times the scored trials of the fit before, the surrogate's own parameters are fitted again
MOST_ROWS = 300  # scores that the surrogate is fitted to: with more of them, those of the first rungs say no more
RISK = 1.0  # standard deviations that are taken off an estimate on photographs
_RANDOM_SHARE = 0.3
_LONGEST_WALK = 4
_DRAWS, _TRIED = 3000, 60
_TRIED_WARM, _NEAREST = 300, 10
REACH = 1.25  # times the budget, up to where gains count on photographs: at the budget itself a network would gain none

# Of a standard normal distribution: expectations by Gauss-Hermite quadrature.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

Predict = Callable[[Sequence[FastViTConfig]], np.ndarray]
Estimates = Callable[[Sequence[FastViTConfig]], tuple[np.ndarray, np.ndarray]]
JudgeOf = Callable[[Sequence[Trial]], Judge]


def hypervolume_gains(ms: np.ndarray, score: np.ndarray, front_ms: np.ndarray, front_score: np.ndarray,
                      budget_ms: float, floor: float) -> np.ndarray:
    """Hypervolume that each point alone would add to a front, as nas.search.pareto.hypervolume counts it.

    Args:
        ms, score: the points (N,).
        front_ms, front_score: the front, both ascending (F,).
    """
    edges = np.concatenate([[0.0], front_ms, [budget_ms]])
    height = np.concatenate([[floor], np.maximum(front_score, floor)])
    # Over each step of the front: the part of it to the right of the point, times how far the point rises above it.
    width = np.clip(edges[1:] - np.maximum(edges[:-1], ms[:, None]), 0, None)
    return (width * np.clip(score[:, None] - height, 0, None)).sum(1) / budget_ms


class Proposer:
    """Proposes for one worker; everything it knows of others comes in with the records.

    Args:
        prior: short runs that ship for exactly these images.
        judge: who estimates configurations, from the trials so far; None: the surrogate of the short runs.
        allows: whether a configuration meets the run's limits on size; others tell of scores, and stand on no front.
    """

    def __init__(self, space: SearchSpace, steps: int, budget_ms: float, rng: np.random.Generator,
                 prior: Sequence[Evidence] = (), judge: JudgeOf | None = None,
                 allows: Callable[[FastViTConfig], bool] = lambda config: True) -> None:
        self.space, self.steps, self.budget_ms, self.rng = space, steps, budget_ms, rng
        self.surrogate, self.prior, self.judge = Surrogate(steps, most_rows=MOST_ROWS), prior, judge
        self.allows = allows
        self._fitted_to = 0.0
        self._kept: list[FastViTConfig] = []

    def random(self, predict_ms: Predict, known: set[str]) -> FastViTConfig | None:
        """A random configuration predicted within the budget, or None when there is none.

        Of some, the one nearest to a latency drawn evenly in the logarithm from a fifth of the budget up: a front
        has a fast end too, and few configurations of a space are small.
        """
        return next(iter(self._near(predict_ms, known, _TRIED)), None)

    def warm_start(self, predict_ms: Predict, known: set[str]) -> FastViTConfig | None:
        """As `random`, but of several near that latency the one with most activations: of what is known without
        training, what says most of long training at equal latency (docs/LOG.md)."""
        near = self._near(predict_ms, known, _TRIED_WARM)[:_NEAREST]
        return max(near, key=lambda config: cost(config, SIZE_RESOLUTION).activations_m, default=None)

    def _near(self, predict_ms: Predict, known: set[str], tried: int) -> list[FastViTConfig]:
        """Of `tried` random configurations those within the budget, the nearest to a drawn latency first."""
        target = np.log(self.budget_ms) + self.rng.uniform(np.log(0.2), 0.0)
        for _ in range(_DRAWS // tried):
            configs = [self.space.sample(self.rng) for _ in range(tried)]
            ms = predict_ms(configs)
            if near := sorted((abs(np.log(found) - target), index) for index, found in enumerate(ms)
                              if found <= self.budget_ms and configs[index].key() not in known):
                return [configs[index] for _, index in near]
        return []

    def next(self, trials: Sequence[Trial], predict_ms: Predict) -> FastViTConfig | None:
        """The next configuration, or None when nothing within the budget is left to propose."""
        known = {t.config_key for t in trials if t.config_key}
        scored = [t for t in trials if t.scores and t.config and t.meets_budget(self.budget_ms)
                  and self.allows(t.architecture)]
        begun = sum(t.outcome in (Outcome.COMPLETE, Outcome.STOPPED_EARLY, Outcome.RUNNING)
                    and not (t.preset or t.anchor) for t in trials)
        if self.judge is None and begun < STARTUP_TRIALS and not self.prior:
            return self.warm_start(predict_ms, known)
        estimated = self._estimates(trials, scored)
        if estimated is None or not scored:
            return self.warm_start(predict_ms, known)
        # What others are at counts as if it had ended as expected, so that workers do not all try the same corner.
        others = [t for t in trials if t.outcome == Outcome.RUNNING and t.config and not t.scores]
        configs = [t.architecture for t in (*scored, *others)]
        mean, _ = estimated(configs)
        ms = np.concatenate([[t.latency_ms or np.nan for t in scored], predict_ms(configs[len(scored):])])
        on_front = pareto(np.where(ms <= self.budget_ms, ms, np.nan), mean)
        bred = {config.key(): config for config in (*self._kept, *self.candidates([configs[i] for i in on_front]))}
        pool = [config for key, config in bred.items() if key not in known]
        pool_ms = predict_ms(pool)
        within = np.flatnonzero(pool_ms <= self.budget_ms)  # beyond it nothing can be gained
        if not within.size:
            return self.random(predict_ms, known)
        pool, pool_ms = [pool[i] for i in within], pool_ms[within]
        pool_mean, pool_sd = estimated(pool)
        # The law knows small networks before any was tried, so that the front gets a fast end too.
        edge, floor = ((self.budget_ms, mean.min()) if self.judge is None else
                       (self.budget_ms * REACH, min(mean.min(), pool_mean.min())))
        gain = np.zeros(len(pool))
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            gain += weight * hypervolume_gains(pool_ms, pool_mean + node * pool_sd, ms[on_front], mean[on_front],
                                               edge, float(floor))
        best, *next_best = np.argsort(-gain)[:KEPT + 1]
        if gain[best] <= 0:
            return self.random(predict_ms, known)
        self._kept = [pool[i] for i in next_best]
        return pool[best]

    def _estimates(self, trials: Sequence[Trial], scored: Sequence[Trial]) -> Estimates | None:
        """What is thought of configurations now: mean and standard deviation; None before anything can be."""
        if self.judge is not None:
            judge = self.judge(trials)

            def by_judge(configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
                found = judge.estimate(configs)
                # What is unlike anything known must promise more. Nothing that proxies say would settle the doubt, so
                # there is none to explore; and the level common to all moves no point against another.
                doubt = np.array([one.apart_sd for one in found])
                return np.array([one.score for one in found]) - RISK * doubt, np.zeros(len(found))

            return by_judge
        refit = len(scored) >= REFIT_AT * self._fitted_to
        self.surrogate.fit([*self.prior, *evidence(trials)], optimize=refit)
        if refit:
            self._fitted_to = len(scored)
        return self.surrogate.predict if self.surrogate.ready else None

    def candidates(self, parents: Sequence[FastViTConfig]) -> list[FastViTConfig]:
        """Random configurations, and parents in the space changed in one to four dimensions."""
        parents = [parent for parent in parents if parent in self.space]
        found = {}
        for number in range(CANDIDATES):
            if not parents or number < _RANDOM_SHARE * CANDIDATES:
                config = self.space.sample(self.rng)
            else:
                config = self.mutated(parents[self.rng.integers(len(parents))])
            found[config.key()] = config
        return list(found.values())

    def mutated(self, parent: FastViTConfig) -> FastViTConfig:
        """`parent` with one to four dimensions drawn anew."""
        params = self.space.encode(parent)
        dimensions = self.space.dimensions
        for index in self.rng.choice(len(dimensions), self.rng.integers(1, _LONGEST_WALK + 1), replace=False):
            choices = dimensions[index].choices
            params[dimensions[index].name] = choices[self.rng.integers(len(choices))]
        return self.space.decode(params)
