"""The surrogate, on objectives whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.estimate.surrogate import Evidence, Surrogate, encode, leave_out
from space import SearchSpace

SPACE = SearchSpace.load("default")


def truth(config: FastViTConfig) -> float:
    """Size, and what size does not explain: large FFN kernels and attention in stage 4 help."""
    return (0.05 * np.log(cost(config, 64).gmacs) + 0.02 * sum(k == 7 for k in config.ffn_kernels)
            + 0.04 * (config.mixers[3] == "attention"))


def rows(count: int, noise: float, seed: int = 0) -> list[Evidence]:
    rng = np.random.default_rng(seed)
    configs = [SPACE.sample(rng) for _ in range(count)]
    return [Evidence(config, steps, truth(config) * steps / 100 + noise * rng.standard_normal())
            for config in configs for steps in (50, 100)]


def test_encodings_tell_configurations_apart() -> None:
    rng = np.random.default_rng(0)
    configs = [SPACE.sample(rng) for _ in range(50)] + list(PRESETS.values())
    assert len({tuple(encode(config)) for config in configs}) == len({config.key() for config in configs})


def test_the_posterior_knows_more_than_size_and_how_much() -> None:
    found = rows(150, noise=0.02)
    model = Surrogate(100).fit(found)
    rng = np.random.default_rng(9)
    new = [SPACE.sample(rng) for _ in range(60)]
    expected = [truth(config) for config in new]
    mean, sd = model.predict(new)
    tau = kendalltau(expected, mean).statistic
    assert tau > kendalltau(expected, [cost(c, 64).gmacs for c in new]).statistic + 0.03
    assert np.mean(np.abs(mean - expected) < 1.645 * sd) > 0.7
    assert model.noise_sd == pytest.approx(0.02, rel=0.5)


def test_leave_out_covers() -> None:
    found = leave_out(rows(60, noise=0.02), 100)
    assert found["n"] == 60
    assert 0.3 < found["coverage_50"] < 0.75
    assert found["coverage_90"] > 0.75
    assert found["tau"] > found["tau_gmacs"]


def test_too_little_evidence_is_no_posterior() -> None:
    assert not Surrogate(100).fit(rows(5, 0.0)).ready
