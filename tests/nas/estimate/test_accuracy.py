"""The estimate of accuracy on photographs: what it starts from, what moves it and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.bench.real_images import truth_rows
from nas.estimate.accuracy import AccuracyModel, Agreement, Spread, Whole, covariance, logit, shipped_whole
from nas.estimate.surrogate import Evidence, Surrogate
from space import SearchSpace


def drawn(count: int, seed: int = 0) -> list[FastViTConfig]:
    space, rng = SearchSpace.load("default"), np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def wider(config: FastViTConfig) -> FastViTConfig:
    return config.replace(widths=tuple(2 * width for width in config.widths))


def test_without_evidence_the_larger_network_wins() -> None:
    model = AccuracyModel("nothing is known of these images")
    small = drawn(20)
    found = model.predict([*small, *map(wider, small)])
    assert (found.mean[20:] > found.mean[:20]).all()
    ladder = model.predict([PRESETS[name] for name in ("t8", "t12", "s12", "sa12", "sa24")])
    assert (np.diff(ladder.mean) > 0).all()
    assert ladder.beats(4, 0) > 0.9


def test_on_new_images_the_level_is_open_and_the_order_is_not() -> None:
    found = AccuracyModel("new").predict([PRESETS["t8"], PRESETS["sa24"]])
    assert found.sd.min() > 0.1
    low, high = found.interval(0.9)
    assert (low < found.top1).all()
    assert (found.top1 < high).all()
    assert found.interval(0.5)[0][0] > low[0]


def test_whole_networks_of_the_run_move_the_level_of_all() -> None:
    configs = drawn(6)
    before = AccuracyModel("run").predict(configs)
    after = AccuracyModel("run", [Whole("run", PRESETS["t8"], 0.35, 0.01)]).predict(configs)
    assert (after.top1 < before.top1 - 0.1).all()
    assert (after.sd < before.sd / 2).all()


def test_other_images_do_not_get_that_level() -> None:
    trained = [Whole("run", config, 0.2, 0.01) for config in drawn(5)]
    assert AccuracyModel("other", trained).predict([PRESETS["t8"]]).top1[0] > 0.5


def trained_proxies(configs: list[FastViTConfig], scores: np.ndarray) -> Surrogate:
    return Surrogate(120).fit([Evidence(config, 120, float(score)) for config, score in zip(configs, scores,
                                                                                           strict=True)])


@pytest.mark.parametrize("agreement", [Agreement(0.0, 100), Agreement(-0.6, 100), Agreement(0.5, 0)])
def test_proxies_that_agree_with_nothing_move_nothing(agreement: Agreement) -> None:
    configs = drawn(16)
    scores = np.random.default_rng(0).random(16)
    model = AccuracyModel("run")
    before = model.predict(configs)
    model.believe(trained_proxies(configs, scores), configs, agreement)
    limit = 0.0 if agreement.correlation <= 0 else 0.02
    assert np.abs(model.predict(configs).mean - before.mean).max() <= limit


def test_noise_of_proxies_moves_less_than_what_repeats() -> None:
    configs, rng = drawn(24), np.random.default_rng(1)
    agreement = Agreement(0.7, 60)
    depth = np.array([config.widths[0] / 50 + config.mlp_ratios[2] for config in configs])
    before = AccuracyModel("run").predict(configs).mean

    def moved(scores: np.ndarray) -> float:
        model = AccuracyModel("run").believe(trained_proxies(configs, scores), configs, agreement)
        return float(np.abs(model.predict(configs).mean - before).mean())

    assert moved(rng.standard_normal(24)) < moved(depth)


def test_intervals_hold_what_they_say_when_the_law_is_right() -> None:
    spread, rng = Spread(), np.random.default_rng(3)
    configs = drawn(60, seed=5)
    inside: dict[float, list[float]] = {0.5: [], 0.9: []}
    for _ in range(20):
        k = covariance(spread, (configs, ["a"] * 60), (configs, ["a"] * 60))
        truth = spread.centre + np.linalg.cholesky(k + np.eye(60) * spread.chance**2) @ rng.standard_normal(60)
        top1 = 1 / (1 + np.exp(-truth))
        known = [Whole("a", c, float(t), 1e-4) for c, t in zip(configs[:20], top1, strict=False)]
        found = AccuracyModel("a", known=known, spread=spread).predict(configs[20:])
        for level, hits in inside.items():
            low, high = found.interval(level)
            hits.append(float(np.mean((low <= top1[20:]) & (top1[20:] <= high))))
    assert 0.42 < np.mean(inside[0.5]) < 0.58
    assert 0.84 < np.mean(inside[0.9]) < 0.95


def test_what_ships_is_real_images_of_known_configurations() -> None:
    rows = truth_rows()
    assert {row.preset for row in rows} >= {"t8", "t12", "s12", "sa12"}
    for row in rows:
        assert 100 / row.classes < row.top1 < 100
        assert 0 < row.se < 5
        assert row.steps > 100
        assert row.preset is None or PRESETS[row.preset].key() == row.config.key()
        assert cost(row.config, row.px).gmacs > 0
    assert len(shipped_whole()) == len(rows) + 12  # the published ones
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
