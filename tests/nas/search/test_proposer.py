"""What is proposed: within the budget, not known, and where it adds most to the front."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas.estimate.judge import run_judge
from nas.estimate.surrogate import Evidence
from nas.runs.trial import Outcome, Rung, Trial
from nas.search.pareto import hypervolume, pareto
from nas.search.proposer import STARTUP_TRIALS, Proposer, hypervolume_gains
from space import SearchSpace
from tests.nas.estimate.test_surrogate import truth
from tests.nas.trials import meta, scored

SPACE, BUDGET_MS = SearchSpace.load("default"), 2.0


def latency_ms(configs: Sequence[FastViTConfig]) -> np.ndarray:
    return np.array([0.2 + 30 * cost(config, 64).gmacs for config in configs])


def record(number: int, config: FastViTConfig, score: float | None, **more: Any) -> Trial:
    return scored(number, config, float(latency_ms([config])[0]), *([] if score is None else [Rung(240, score, 0.01)]),
                  outcome=Outcome.RUNNING if score is None else Outcome.COMPLETE, **more)


def begun(count: int = 20) -> tuple[Proposer, list[Trial]]:
    """A proposer, and trials whose score grows with latency."""
    proposer, records = Proposer(SPACE, 240, BUDGET_MS, np.random.default_rng(0)), []
    for number in range(count):
        config = proposer.random(latency_ms, set())
        assert config is not None
        records.append(record(number, config, float(np.log(latency_ms([config])[0])) / 10))
    return proposer, records


def test_gains_are_differences_of_hypervolume() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        front_ms, front_score = np.sort(rng.uniform(0.2, 2, 4)), np.sort(rng.uniform(0, 1, 4))
        ms, score = rng.uniform(0.1, 2.5, 5), rng.uniform(-0.2, 1.2, 5)
        before = hypervolume(front_ms, front_score, budget_ms=2)
        after = [hypervolume([*front_ms, m], [*front_score, s], budget_ms=2)
                 for m, s in zip(ms, score, strict=True)]
        assert hypervolume_gains(ms, score, front_ms, front_score, 2.0, 0.0) == pytest.approx(np.array(after) - before)


def test_a_warm_start_has_more_activations_at_the_same_latency() -> None:
    proposer = Proposer(SPACE, 240, BUDGET_MS, np.random.default_rng(0))

    def beyond_latency(configs: Sequence[FastViTConfig | None]) -> float:
        return float(np.mean([np.log(cost(c, 64).activations_m / latency_ms([c])[0]) for c in configs if c]))

    warm = [proposer.warm_start(latency_ms, set()) for _ in range(10)]
    assert all(config and latency_ms([config])[0] <= BUDGET_MS for config in warm)
    assert beyond_latency(warm) > beyond_latency([proposer.random(latency_ms, set()) for _ in range(10)]) + 0.1


def test_what_ships_takes_the_place_of_a_warm_start(monkeypatch: pytest.MonkeyPatch) -> None:
    proposer, records = begun(2)
    monkeypatch.setattr(proposer, "warm_start", lambda *args: None)
    assert proposer.next(records, latency_ms) is None
    rng = np.random.default_rng(0)
    proposer.prior = [Evidence(config, 240, truth(config)) for config in (SPACE.sample(rng) for _ in range(20))]
    assert proposer.next(records, latency_ms) is not None
    assert proposer.next([], latency_ms) is None, "without a front there is nothing to add to"


def test_proposals_beat_chance_and_stay_within_the_budget() -> None:
    budget = 0.05

    def predict_ms(configs: Sequence[FastViTConfig]) -> np.ndarray:
        return np.array([cost(config, 64).gmacs for config in configs])

    def search(surrogate: bool, seed: int) -> float:
        rng = np.random.default_rng(seed)
        proposer, records = Proposer(SPACE, 100, budget, rng), []
        for trial in range(45):
            config = (proposer.next(records, predict_ms) if surrogate
                      else proposer.random(predict_ms, {r.config_key for r in records}))
            assert config is not None
            ms = float(predict_ms([config])[0])
            assert ms <= budget
            score = 0.5 + truth(config) + 0.01 * rng.standard_normal()
            records.append(scored(trial, config, ms, Rung(100, score)))
        assert len({r.config_key for r in records}) == len(records)
        return hypervolume([r.latency_ms for r in records],
                           [0.3 + truth(r.architecture) for r in records], budget_ms=budget)

    ours, chance = (np.mean([search(surrogate, seed) for seed in range(2)]) for surrogate in (True, False))
    assert ours > chance


def test_the_first_proposals_need_no_surrogate() -> None:
    proposer, records = begun(STARTUP_TRIALS - 1)
    assert proposer.next(records, latency_ms) is not None
    assert not proposer.surrogate.ready


def test_another_worker_does_not_repeat_what_is_running() -> None:
    _, records = begun()
    one, other, alone = (Proposer(SPACE, 240, BUDGET_MS, np.random.default_rng(7)) for _ in range(3))
    first = one.next(records, latency_ms)
    assert first is not None
    assert alone.next(records, latency_ms) == first  # the same candidates
    second = other.next([*records, record(20, first, None)], latency_ms)
    assert second is not None
    apart = abs(latency_ms([second]) - latency_ms([first]))[0]
    assert second != first
    assert apart > 0


def test_nothing_within_the_budget_is_no_proposal() -> None:
    proposer, _ = begun(1)
    assert proposer.next([], lambda configs: np.full(len(configs), 9.0)) is None


def test_on_photographs_the_front_reaches_to_the_budget_and_has_a_fast_end() -> None:
    """Proxies' scores are noise here: what is followed is the estimate."""
    asked = meta(task="photographs", task_fingerprint="x", steps=240)
    rng = np.random.default_rng(0)
    proposer = Proposer(SPACE, 240, BUDGET_MS, rng, judge=partial(run_judge, asked))
    records: list[Trial] = []
    for number in range(20):
        config = proposer.next(records, latency_ms)
        assert config is not None
        assert latency_ms([config])[0] <= BUDGET_MS
        records.append(record(number, config, float(rng.random())))
    ms = np.array([r.latency_ms for r in records])
    scores = [one.score for one in run_judge(asked, records).estimate([r.architecture for r in records])]
    front = ms[pareto(ms, scores)]
    assert front.max() > 0.93 * BUDGET_MS
    assert front.min() < 0.6 * BUDGET_MS
    assert scores[int(np.argmax(ms))] > np.median(scores)


def test_what_others_run_counts_as_if_it_had_ended_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.search import proposer as module

    _, records = begun()
    one, other = (Proposer(SPACE, 240, BUDGET_MS, np.random.default_rng(7)) for _ in range(2))
    first = one.next(records, latency_ms)
    assert first is not None
    fronts: list[np.ndarray] = []
    gains = module.hypervolume_gains
    monkeypatch.setattr(module, "hypervolume_gains", lambda ms, score, front_ms, *rest: (
        fronts.append(front_ms), gains(ms, score, front_ms, *rest))[1])
    other.next([*records, record(20, first, None)], latency_ms)
    assert latency_ms([first])[0] in fronts[0], "the best that one worker found is on the other one's front"


def test_a_doubtful_configuration_may_be_worth_more_than_a_sure_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means alone would see no gain in either: both are expected just below the front."""
    proposer, records = begun()
    best = max(r.score or 0.0 for r in records)
    rng = np.random.default_rng(3)
    sure, doubtful = sorted((SPACE.sample(rng) for _ in range(2)), key=lambda c: c.key())
    sd = {sure.key(): 1e-6, doubtful.key(): 0.1}

    def estimated(configs: Sequence[FastViTConfig]) -> tuple[np.ndarray, np.ndarray]:
        known = {r.config_key: r.score or 0.0 for r in records}
        return (np.array([known.get(c.key(), best - 0.01) for c in configs]),
                np.array([sd.get(c.key(), 0.0) for c in configs]))

    monkeypatch.setattr(proposer, "_estimates", lambda trials, scored: estimated)
    monkeypatch.setattr(proposer, "candidates", lambda parents: [sure, doubtful])
    slow = lambda configs: np.full(len(configs), 0.99 * BUDGET_MS)  # noqa: E731
    assert proposer.next(records, slow) == doubtful
