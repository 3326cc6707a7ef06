"""Trials that end early, and those that must not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from fastvit import FastViTConfig
from fastvit.cost import cost
from nas.estimate.surrogate import Evidence, Surrogate
from nas.runs.trial import Outcome, Rung, Trial
from nas.search.early_stopping import MARGIN, dominated
from space import SearchSpace
from tests.nas.trials import scored

SPACE = SearchSpace.load("default")
STEPS = 240


def truth(config: FastViTConfig) -> float:
    return 0.4 + 0.05 * float(np.log(cost(config, 64).gmacs))


def trial(number: int, config: FastViTConfig, ms: float, bonus: float = 0.0, rungs: tuple[int, ...] = (60, 120, STEPS),
          ) -> Trial:
    scores = [Rung(step, (truth(config) + bonus) * step / STEPS, 0.001) for step in rungs]
    return scored(number, config, ms, *scores, outcome=Outcome.COMPLETE if STEPS in rungs else Outcome.RUNNING)


def history(count: int) -> list[Trial]:
    rng = np.random.default_rng(0)
    configs = [SPACE.sample(rng) for _ in range(count)]
    return [trial(number, config, 30 * cost(config, 64).gmacs) for number, config in enumerate(configs)]


def stopped(records: list[Trial], own: Trial) -> str:
    assert dominated(own, records, Surrogate(STEPS)) == dominated(own, [*records, own], Surrogate(STEPS))
    return dominated(own, records, Surrogate(STEPS))


def test_a_slow_and_bad_trial_ends_and_a_fast_or_good_one_does_not() -> None:
    records = history(30)
    slowest = max(r.latency_ms or 0.0 for r in records)
    middle = sorted(records, key=lambda r: r.latency_ms or 0.0)[15].architecture
    config = middle.replace(depths=(*middle.depths[:3], 1 + middle.depths[3] % 6))
    assert "is no slower and better with" in stopped(records, trial(90, config, slowest + 1, -0.3, (60, 120)))
    assert stopped(records, trial(90, config, slowest + 1, +0.2, (60, 120))) == ""
    assert stopped(records, trial(90, config, 0.0, -0.3, (60, 120))) == "", "nothing is as fast"


def test_before_there_is_a_posterior_a_clear_lead_decides() -> None:
    records = history(3)
    config = SPACE.sample(np.random.default_rng(9))
    best = max(rung.score for r in records for rung in r.scores if rung.step == 120)
    bonus = 2 * (best - MARGIN - 0.01) - truth(config)
    assert "behind trial" in stopped(records, trial(90, config, 1e3, bonus, (60, 120)))
    assert stopped(records, trial(90, config, 1e3, bonus + 2 * 0.02, (60, 120))) == ""
    assert stopped(records, trial(90, config, 1e3, bonus - 9, (60,))) == "", "too early to say"


class Told(Surrogate):
    """Says that the trial scores 0 and every rival 1, with a standard deviation that makes it as sure as is told."""

    def __init__(self, sure: float) -> None:
        super().__init__(STEPS)
        self.sd = 1 / (norm.ppf(sure) * 2**0.5)
        self.rows: list[Evidence] = []

    @property
    def ready(self) -> bool:
        return True

    def fit(self, rows: Sequence[Evidence], **_: object) -> Surrogate:
        self.rows = list(rows)
        return self

    def predict(self, configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0.0, *[1.0] * (len(configs) - 1)]), np.full(len(configs), self.sd)


def test_it_takes_99_percent_and_not_less() -> None:
    records = history(3)
    own = trial(90, SPACE.sample(np.random.default_rng(9)), 1e3, rungs=(60, 120))
    assert dominated(own, records, Told(0.985)) == ""
    assert "better with 99 % probability" in dominated(own, records, Told(0.993))


def test_what_ships_and_the_trial_itself_are_part_of_what_is_known() -> None:
    records = history(3)
    own = trial(90, SPACE.sample(np.random.default_rng(9)), 1e3, rungs=(60, 120))
    prior, told = [Evidence(SPACE.sample(np.random.default_rng(1)), STEPS, 0.5)], Told(0.5)
    dominated(own, records, told, prior)
    assert prior[0] in told.rows
    assert {row.steps for row in told.rows if row.config == own.config} == {60, 120}
    assert len(told.rows) == 1 + 3 * 3 + 2
