"""Weights of any origin land in the right place, and a sliced network starts ahead of a random one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fastvit import PRESETS, FastViT, FastViTConfig
from fastvit.inherit import inherit
from fastvit.timm import to_apple, to_timm
from nas.data import load_task
from nas.errors import UsageError
from nas.export.images import normalised
from nas.export.weights import calibrate, load_weights, random_model
from search import main
from space import SearchSpace
from tests.fastvit.test_fusion import narrow, randomise

SMALL = narrow(PRESETS["sa12"]).replace(depths=(1, 1, 1, 1))


@pytest.mark.parametrize("convert", [lambda s, c: s, to_timm, to_apple], ids=["ours", "timm", "apple"])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_any_names_from_any_file(convert: object, suffix: str, tmp_path: Path) -> None:
    model = randomise(FastViT(SMALL, 10)).eval()
    state = convert(model.state_dict(), SMALL)  # type: ignore[operator]
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    loaded, _ = load_weights(path, SMALL)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    # Another number of classes: a new classifier on the same features.
    other, _ = load_weights(path, SMALL, 4)
    assert other.head.out_features == 4
    assert torch.equal(other.stem[0].convs[0].conv.weight, model.stem[0].convs[0].conv.weight)


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(FastViT(PRESETS["t8"], 10).state_dict(), path)
    with pytest.raises(UsageError, match="does not fit"):
        load_weights(path, SMALL)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="cannot be read"):
        load_weights(path, SMALL)
    torch.save(torch.nn.Linear(2, 2), path)  # a pickled module could run code
    with pytest.raises(UsageError, match="cannot be read"):
        load_weights(path, SMALL)
    with pytest.raises(UsageError, match="no such file"):
        load_weights(tmp_path / "none.pth", SMALL)
    torch.save({"a": 3}, path)
    with pytest.raises(UsageError, match="no dictionary of tensors"):
        load_weights(path, SMALL)


def test_inheriting_leaves_torchs_generator_alone() -> None:
    model = FastViT(SMALL, 10)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, _ = inherit(model.state_dict(), SMALL, SMALL.replace(depths=(2, 2, 2, 2)), 10)
    assert torch.equal(torch.rand(3), expected)
    other, _ = inherit(model.state_dict(), SMALL, SMALL.replace(depths=(2, 2, 2, 2)), 10)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["t8", "sa12", "ma36"])
@torch.no_grad()
def test_a_network_inherits_itself_unchanged(name: str) -> None:
    config = narrow(PRESETS[name])
    model = randomise(FastViT(config, 10)).eval()
    other, share = inherit(model.state_dict(), config, config, 10)
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(model(x), other.eval()(x), rtol=1e-4, atol=1e-5)
    assert share > 0.98


@torch.no_grad()
def test_any_configuration_inherits_from_any() -> None:
    space, rng = SearchSpace.load("default"), np.random.default_rng(0)
    for _ in range(6):
        large, small = narrow(space.sample(rng)), narrow(space.sample(rng))
        model = randomise(FastViT(large, 10))
        other, share = inherit(model.state_dict(), large, small, 7)
        calibrate(other, [torch.randn(4, 3, 64, 64)])
        assert torch.isfinite(other(torch.randn(2, 3, 64, 64))).all()
        assert 0 < share < 1


def _train(model: FastViT, steps: int, seed: int) -> float:
    """Accuracy on the held-out digits after `steps`."""
    task = load_task("digits", resolution=16)
    rng = np.random.default_rng(seed)
    held = task.val.batch(np.arange(len(task.val)), 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    for _ in range(steps):
        batch = task.train.batch(rng.integers(len(task.train), size=64), 16)
        loss = F.cross_entropy(model.train()(torch.from_numpy(normalised(batch.images))),
                               torch.from_numpy(batch.labels).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(normalised(held.images)))
    return float((logits.argmax(1).numpy() == held.labels).mean())


LARGE = FastViTConfig(depths=(2, 2, 3, 2), widths=(24, 48, 64, 96), mlp_ratios=(3, 3, 3, 3),
                      mixers=("repmixer",) * 4, stem_stride=1, layer_scale_init=0.1)
SMALL_ONE = LARGE.replace(depths=(1, 1, 2, 1), widths=(16, 32, 48, 64), mlp_ratios=(2, 2, 2, 2), ffn_kernels=(5,) * 4)


@pytest.mark.slow
def test_a_sliced_start_beats_a_random_one_at_equal_steps() -> None:
    _race(LARGE, SMALL_ONE, teacher_steps=120, steps=20, seeds=(1, 2))


def test_a_sliced_start_beats_a_random_one_in_short() -> None:
    large = LARGE.replace(depths=(1, 2, 1, 1), widths=(12, 16, 32, 48), stem_stride=2)
    small = large.replace(depths=(1, 1, 1, 1), widths=(12, 16, 24, 40), mlp_ratios=(2, 2, 2, 2), ffn_kernels=(5,) * 4)
    _race(large, small, teacher_steps=90, steps=12, seeds=(1,))


def _race(large: FastViTConfig, small: FastViTConfig, *, teacher_steps: int, steps: int,
          seeds: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    teacher = FastViT(large, 10)
    assert _train(teacher, teacher_steps, seed=0) > 0.8
    task = load_task("digits", resolution=16)
    sliced, share = inherit(teacher.state_dict(), large, small, 10)
    calibrate(sliced, [torch.from_numpy(normalised(task.train.batch(np.arange(256), 16).images))])
    assert share > 0.9
    for seed in seeds:
        warm, cold = _train(_copy(sliced), steps, seed), _train(random_model(small, 10, seed), steps, seed)
        print(seed, warm, cold)
        assert warm > cold + 0.05


def _copy(model: FastViT) -> FastViT:
    import copy

    return copy.deepcopy(model)


def test_inherit_from_the_command_line(tmp_path: Path) -> None:
    weights = tmp_path / "sa12.safetensors"
    save_file({k: v.contiguous() for k, v in randomise(FastViT(PRESETS["sa12"], 10)).state_dict().items()}, weights)
    words = ["export", "t8", "--name", "warm_t8", "--to", str(tmp_path), "--resolution", "64", "--formats", "timm",
             "--inherit", str(weights)]
    assert main(words) == 2  # of which network are these?
    assert main([*words, "--base", "sa12"]) == 0
    sheet = json.loads((tmp_path / "warm_t8" / "fastvit.json").read_text())
    assert sheet["num_classes"] == 10
    assert "sliced" in sheet["weights"]
    assert main(["verify", str(tmp_path / "warm_t8")]) == 0
