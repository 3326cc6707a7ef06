"""Proxy training: what is kept and narrowed, the same result after an interruption, failures that are recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nas.proxy.parent
from fastvit import PRESETS, FastViTConfig
from nas.bench.table import shipped_scores
from nas.data import load_task
from nas.errors import Failure
from nas.proxy import score
from nas.proxy.net import ProxyNet, proxy_config
from nas.proxy.parent import SEEDS, Parent, parent_of, parent_path, read_parent, train_parent
from nas.proxy.recipe import rungs
from nas.proxy.train import Trainer
from space import SearchSpace

SPACE = SearchSpace.load("default")
SMALL = FastViTConfig((1, 1, 1, 1), (16, 32, 64, 128), (2, 2, 2, 2), ("repmixer",) * 3 + ("attention",),
                      (3, 3, 3, 3), (7, 7, 7, 7), (7, 7, 7))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache: parents are trained anew."""
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    return tmp_path


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_proxies_keep_everything_but_width(seed: int) -> None:
    config = SPACE.sample(np.random.default_rng(seed))
    small = proxy_config(config)
    for kept in ("depths", "mlp_ratios", "mixers", "mixer_kernels", "ffn_kernels", "patch_kernels"):
        assert getattr(small, kept) == getattr(config, kept)
    for wide, narrow in zip(config.widths, small.widths, strict=True):
        assert narrow == pytest.approx(wide / 4, abs=4)
    logits, maps = ProxyNet(config, 5, 3).eval()(torch.zeros(1, 3, 48, 48))
    assert logits.shape == (1, 5)
    assert [m.shape for m in maps] == [(1, 3, 12, 12), (1, 3, 6, 6)]


def test_a_continued_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    task = load_task("digits", resolution=32)
    whole = Trainer(SMALL, task)
    whole.to(6)
    cut = Trainer(SMALL, task)
    cut.to(3)
    cut.save(tmp_path / "c.pt")
    other = Trainer(SMALL, task)
    assert other.load(tmp_path / "c.pt")
    assert other.step == 3
    other.to(6)
    assert other.curve == whole.curve
    assert other.evaluate().score == whole.evaluate().score
    (tmp_path / "c.pt").write_bytes(b"damaged")
    assert not Trainer(SMALL, task).load(tmp_path / "c.pt")
    assert not Trainer(SMALL, task).load(tmp_path / "none.pt")


def test_training_teaches() -> None:
    task = load_task("digits", resolution=32)
    trainer = Trainer(SMALL, task)
    trainer.to(80)
    assert trainer.evaluate().score > 0.3  # chance is 0


def test_rungs_end_where_they_are_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("digits", resolution=32)
    assert rungs(4) == (4,)
    assert rungs(100) == (30, 60, 100)
    assert rungs(None)[-1] == rungs(rungs(None)[-1])[-1]
    monkeypatch.setattr("nas.proxy.parent.STEPS", 2)
    seen = []
    result = score(SMALL, task, steps=61, on_rung=lambda found: seen.append(found.steps) or True)
    assert seen == [30]
    assert result.steps == 30


def test_divergence_is_a_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.proxy.train.LEARNING_RATE", float("inf"))
    with pytest.raises(Failure, match="diverged at step"):
        score(SMALL, load_task("digits", resolution=32), steps=5)


def test_scores_of_another_recipe_do_not_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.bench.table.RECIPE", 0)
    assert not shipped_scores(load_task("builtin").fingerprint, 0)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_the_presets_scores_ship(seed: int) -> None:
    shipped = shipped_scores(load_task("builtin").fingerprint, seed)
    for config in PRESETS.values():
        assert set(rungs(None)) <= set(shipped[config.key()])
    assert not shipped_scores(load_task("builtin", seed=1).fingerprint, 1)


@pytest.mark.parametrize("name", ["t8", "sa12"])
def test_zero_cost_scores_repeat_and_grow_with_depth(name: str) -> None:
    from benchmarks.zero_cost import sign_codes, synflow

    config = PRESETS[name].replace(depths=(1, 1, 1, 1))
    deeper = config.replace(depths=(3, 3, 3, 3))
    for zero_cost in (sign_codes, synflow):
        assert zero_cost(config) == zero_cost(config)
        assert zero_cost(deeper) > zero_cost(config)


def test_the_over_parameterized_form_trains_too() -> None:
    task = load_task("digits", resolution=32)
    lean, rich = (Trainer(SMALL, task, branches=branches) for branches in (0, 2))
    assert sum(p.numel() for p in rich.net.parameters()) > sum(p.numel() for p in lean.net.parameters())
    rich.to(30)
    assert rich.evaluate().score > 0.05


def shipped_parent(seed: int = 0) -> Parent:
    return parent_of(load_task("builtin"), rungs(None)[-1], seed)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_the_parents_of_the_built_in_task_ship(cache: Path, seed: int) -> None:
    assert not parent_path(load_task("builtin").fingerprint, 1, seed).is_relative_to(cache)
    parent = shipped_parent(seed)
    task = load_task("builtin")
    trainer = Trainer(PRESETS["sa24"], task, parent=parent)
    assert trainer.evaluate().parts["dense"] > 0.3, "it is trained, and hands all of itself down to its like"


def test_its_like_inherits_all_of_it_and_gives_the_same_outputs() -> None:
    parent, task = shipped_parent(), load_task("builtin")
    nets = [ProxyNet(PRESETS["sa24"], task.num_classes, len(task.map_names)) for _ in range(2)]
    nets[0].load_state_dict(parent.state)
    assert parent.hand_down(nets[1]) == pytest.approx(1)
    images = torch.randn(2, 3, 48, 48)
    expected, found = (net.eval()(images) for net in nets)
    torch.testing.assert_close(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_any_configuration_starts_from_its_slice(seed: int) -> None:
    config, task = SPACE.sample(np.random.default_rng(seed)), load_task("builtin")
    trainer = Trainer(config, task, parent=shipped_parent())
    alone = Trainer(config, task)
    assert any(not torch.equal(a, b) for a, b in zip(trainer.net.parameters(), alone.net.parameters(), strict=True))
    trainer.to(2)
    assert np.isfinite(trainer.evaluate().score)


@pytest.mark.parametrize("mixer", ["pool", "convmixer"])
def test_baseline_mixers_inherit_the_rest(mixer: str) -> None:
    config = SMALL.replace(mixers=(mixer,) * 4)
    task = load_task("builtin")
    net = ProxyNet(config, task.num_classes, len(task.map_names))
    assert shipped_parent().hand_down(net) > 0.5


def test_a_parent_is_trained_once_and_again_when_its_file_is_damaged(
        cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, trained = load_task("digits", resolution=32), []
    real = nas.proxy.parent.train_parent
    monkeypatch.setattr("nas.proxy.parent.train_parent",
                        lambda *args, **kwargs: trained.append(args) or real(*args, **kwargs))
    first = parent_of(task, 1, 0)
    again = parent_of(task, 1, len(SEEDS))
    assert len(trained) == 1, "seeds that far apart share a parent"
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    parent_path(task.fingerprint, 1, 0).write_bytes(b"damaged")
    parent_of(task, 1, 0)
    assert len(trained) == 2
    other = parent_of(task, 1, 1)
    assert len(trained) == 3
    assert any(not torch.equal(first.state[name], other.state[name]) for name in first.state)
    assert not list(cache.glob("parents/*.pt")), "no checkpoint is left behind"


def test_a_killed_parent_goes_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("digits", resolution=32)
    path = cache / "whole.safetensors"
    train_parent(task, 2, path, 1)
    cut = Trainer(PRESETS["sa24"], task, seed=SEEDS[1])
    cut.to(1)
    cut.save(cache / "cut.pt")
    train_parent(task, 2, cache / "cut.safetensors", 1)
    whole, gone_on = read_parent(path), read_parent(cache / "cut.safetensors")
    assert whole is not None
    assert gone_on is not None
    assert all(torch.equal(value, gone_on.state[name]) for name, value in whole.state.items())
