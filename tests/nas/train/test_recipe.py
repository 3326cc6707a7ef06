"""What is trained with what: the paper's values, smaller data sets, and the words of timm's script."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from fastvit import PRESETS
from nas.errors import UsageError
from nas.export.recipe import recipe_yaml
from nas.export.variant import MEAN, STD
from nas.recipe import Recipe, parse_setting, recipe_for
from nas.train.data import Batches

# Arguments of timm's train.py that a recipe may use (timm 1.0).
TIMM = {"model", "model_kwargs", "num_classes", "input_size", "drop_path", "mean", "std", "epochs", "batch_size", "opt",
        "lr", "min_lr", "weight_decay", "sched", "warmup_epochs", "warmup_lr", "clip_grad", "scale", "ratio", "hflip",
        "aa", "color_jitter", "reprob", "remode", "mixup", "cutmix", "mixup_prob", "smoothing", "model_ema",
        "model_ema_decay", "crop_pct", "interpolation", "train_interpolation", "amp", "amp_dtype", "seed",
        "sched_on_updates"}


def test_imagenet_gets_the_paper() -> None:
    assert recipe_for("folder", 1_281_167, {}) == Recipe()
    tuned = recipe_for("folder", 1_281_167, {}, fine_tune=True)
    assert (tuned.epochs, tuned.lr, tuned.weight_decay, tuned.resolution) == (30, 5e-6, 1e-8, 384)


def test_a_small_data_set_gets_a_smaller_batch() -> None:
    small = recipe_for("folder", 2000, {"epochs": 20})
    assert small.batch_size == 32
    assert small.lr == pytest.approx(1e-3 * (32 / 1024) ** 0.5)
    assert small.warmup_epochs == 2
    assert small.model_ema_decay < 0.9995
    given = recipe_for("folder", 2000, {"batch_size": 64, "lr": 0.5, "warmup_epochs": 0, "model_ema_decay": 0.9})
    assert (given.batch_size, given.lr, given.warmup_epochs, given.model_ema_decay) == (64, 0.5, 0, 0.9)
    assert recipe_for("digits", 1437, {}).hflip == 0


@pytest.mark.parametrize(("text", "value"), [
    ("mixup=0.2", ("mixup", 0.2)), ("epochs=3", ("epochs", 3)), ("aa=none", ("aa", None)), ("scale=0.5,1", ("scale",
     (0.5, 1.0))), ("clip_grad=5", ("clip_grad", 5.0)), ("opt=lamb", ("opt", "lamb")), ("lr=1e-3", ("lr", 1e-3))])
def test_settings(text: str, value: object) -> None:
    assert parse_setting(text) == value


@pytest.mark.parametrize("text", ["mixup", "nothing=1", "epochs=1.5", "lr=fast", "scale=1"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_setting(text)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"smoothing": 1.0},
                                   {"scale": (0.5, 0.2)}, {"warmup_epochs": 400}])
def test_recipes_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_the_same_recipe_in_timms_words() -> None:
    recipe = Recipe(mixup=0.2, drop_path=0.3, resolution=192)
    found = yaml.safe_load(recipe_yaml("my_net", PRESETS["sa24"], recipe, 7, MEAN, STD))
    assert set(found) <= TIMM
    assert found["model"] == "fastvit_sa12"
    assert found["input_size"] == [3, 192, 192]
    for key in ("mixup", "cutmix", "lr", "weight_decay", "aa", "reprob", "smoothing", "model_ema_decay", "epochs",
                "drop_path", "warmup_epochs", "batch_size"):
        assert found[key] == getattr(recipe, key), key
    own = PRESETS["t8"].replace(ffn_kernels=(5, 5, 5, 5))
    text = recipe_yaml("my_net", own, recipe, 7, MEAN, STD, teacher="timm:regnety_160")
    assert yaml.safe_load(text)["model"] == "my_net"
    assert "import my_net" in text
    assert "regnety_160" in text


def test_steps_hold_the_same_images_however_they_are_shared_out() -> None:
    recipe = Recipe(epochs=3, batch_size=8, warmup_epochs=0)
    whole = list(Batches(37, recipe, False))
    assert len(whole) == 3 * 4
    assert len({index for batch in whole[:4] for _, index in batch}) == 32  # no image twice in an epoch
    assert whole[0] != [(0, index) for _, index in whole[4]]  # another order in every epoch
    for processes, parts in ((2, 1), (1, 2), (2, 2)):
        shared = [list(Batches(37, recipe, False, rank, processes, parts)) for rank in range(processes)]
        for step, batch in enumerate(whole):
            pieces = [piece for rank in shared for piece in rank[step * parts:(step + 1) * parts]]
            assert sorted(key for piece in pieces for key in piece) == sorted(batch)
            assert {len(piece) for piece in pieces} == {8 // processes // parts}
    assert list(Batches(37, recipe, False, first=6)) == whole[6:]
    assert len(Batches(37, recipe, False, accumulate=2, first=6)) == 12


def test_images_without_end_are_taken_in_order() -> None:
    batches = Batches(1 << 30, Recipe(epochs=2, batch_size=4, warmup_epochs=0, epoch_images=8), True)
    assert np.array(list(batches))[..., 1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


@pytest.mark.parametrize("aa", ["rand-m10-mstd0-inc1", "rand-m9-mstd0.5-inc1", "original", None])
def test_the_strongest_augmentation_takes_every_image(aa: str | None) -> None:
    from PIL import Image

    from nas.data.pictures import Pictures
    from nas.train.data import TrainSet

    class Some(Pictures):
        def __len__(self) -> int:
            return 150

        def get(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(np.random.default_rng(index).integers(0, 255, (40, 40, 3), np.uint8)), index

    held = TrainSet(Some(), Recipe(resolution=32, aa=aa), MEAN, STD)
    for index in range(150):
        image, label = held[0, index]
        assert image.shape == (3, 32, 32)
        assert label == index
    again, other = held[0, 3][0], held[1, 3][0]
    assert (again == held[0, 3][0]).all()  # the same for an epoch and an image, whatever came between
    assert (again != other).any()
