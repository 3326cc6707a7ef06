"""Full-width training: what a checkpoint goes on to, what a step sees, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastvit import FastViT, FastViTConfig, reparameterize
from nas.data.task import ArraySplit, Task
from nas.errors import Failure
from nas.proxy.full import FullTrainer, augmented, hits
from nas.proxy.full_recipe import BATCH, FullRecipe, work_share

TINY = FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2),
                     mixers=("repmixer", "repmixer", "repmixer", "attention"), head_dim=16, drop_path=0.2)


def colours(count: int = 96, side: int = 32) -> Task:
    """Three classes that differ in their colour."""
    rng = np.random.default_rng(0)

    def split(size: int) -> ArraySplit:
        labels = np.arange(size) % 3
        images = rng.integers(0, 120, (size, side, side, 3))
        images[np.arange(size), :, :, labels] += 100
        return ArraySplit(images.astype(np.uint8), labels)

    return Task("colours", side, ("red", "green", "blue"), split(count), split(60), "colours")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_goes_on_from_a_checkpoint_as_if_nothing_had_been(tmp_path: Path) -> None:
    task, recipe = colours(), FullRecipe(6 * BATCH, 32, 32, seed=3)
    whole = FullTrainer(TINY, task, recipe)
    whole.to(recipe.steps)
    first = FullTrainer(TINY, task, recipe)
    first.to(2)
    first.save(tmp_path / "checkpoint.pt")
    second = FullTrainer(TINY, task, recipe)
    assert second.load(tmp_path / "checkpoint.pt")
    second.to(recipe.steps)
    assert second.curve == whole.curve
    assert second.step == 6
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


@pytest.mark.parametrize("other", [FullRecipe(6 * BATCH, 32, 32, seed=4), FullRecipe(7 * BATCH, 32, 32, seed=3)])
def test_another_training_s_checkpoint_is_left_alone(tmp_path: Path, other: FullRecipe) -> None:
    task = colours()
    FullTrainer(TINY, task, FullRecipe(6 * BATCH, 32, 32, seed=3)).save(tmp_path / "checkpoint.pt")
    assert not FullTrainer(TINY, task, other).load(tmp_path / "checkpoint.pt")
    assert not FullTrainer(TINY.replace(depths=(2, 1, 1, 1)), task, FullRecipe(6 * BATCH, 32, 32, seed=3)).load(
        tmp_path / "checkpoint.pt")


def test_a_damaged_checkpoint_costs_its_training_only(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    assert not FullTrainer(TINY, colours(), FullRecipe(BATCH, 32, 32)).load(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_every_image_is_seen_once_an_epoch_at_the_size_of_its_step() -> None:
    count = 2 * BATCH + 32
    task = colours(count)
    numbered = ArraySplit(np.zeros((count, 32, 32, 3), np.uint8), np.arange(count))
    trainer = FullTrainer(TINY, Task("t", 32, ("a", "b", "c"), numbered, task.val, "t"),
                          FullRecipe(5 * BATCH, 32, 24, seed=1))
    batches = [trainer.images_of(step) for step in range(5)]
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(labels[:count]) == list(range(count))
    assert sorted(labels[count:2 * count]) == list(range(count))
    assert list(labels[:count]) != list(labels[count:2 * count])
    assert [images.shape[1] for images, _ in batches] == [24, 24, 24, 24, 24]
    assert FullRecipe(100 * BATCH, 32, 24).pixels_at(84) == 24
    assert FullRecipe(100 * BATCH, 32, 24).pixels_at(85) == 32
    assert work_share(32, 32) == pytest.approx(1)


def test_changed_images_are_mirrored_and_shifted_ones() -> None:
    images = np.arange(16 * 16, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3).repeat(40, 0)
    found = augmented(images, np.random.default_rng(0))
    assert found.shape == images.shape
    assert len({image.tobytes() for image in found}) > 10
    wide = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    every = {part.tobytes() for i in range(5) for j in range(5)
             for part in (wide[i:i + 16, j:j + 16], wide[i:i + 16, j:j + 16][:, ::-1])}
    assert {image.tobytes() for image in found} <= every


def test_it_learns_and_its_fused_form_says_the_same() -> None:
    task, recipe = colours(), FullRecipe(25 * BATCH, 32, 32, learning_rate=3e-3)
    trainer = FullTrainer(TINY, task, recipe)
    trainer.to(recipe.steps)
    trainer.calibrate()
    held = np.arange(60)
    right = hits(trainer.net, task, held, 32)
    assert right.mean() > 0.8
    net = FastViT(trainer.config, 3)
    net.load_state_dict(trainer.state())
    assert np.array_equal(hits(reparameterize(net.eval()), task, held, 32), right)
    assert trainer.rate(0) < trainer.rate(2)
    assert trainer.rate(recipe.steps - 1) < 0.01 * recipe.learning_rate


def test_a_start_is_gone_on_from() -> None:
    task = colours()
    trained = FullTrainer(TINY, task, FullRecipe(BATCH, 32, 32, seed=1))
    trained.to(1)

    def start(net: FastViT) -> str:
        net.load_state_dict(trained.state())
        return "those of another"

    again = FullTrainer(TINY, task, FullRecipe(BATCH, 32, 32, seed=2), start=start)
    assert again.started_from == "those of another"
    assert all(torch.equal(value, again.state()[name]) for name, value in trained.state().items())


def test_a_loss_that_is_no_number_is_said() -> None:
    trainer = FullTrainer(TINY, colours(), FullRecipe(3 * BATCH, 32, 32))
    with torch.no_grad():
        trainer.net.head.weight.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(Failure, match="diverged at step 1"):
        trainer.to(1)
