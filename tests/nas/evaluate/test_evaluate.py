"""Figures against scikit-learn's, the published robustness metrics, and the command on real folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from fastvit import PRESETS
from nas.errors import UsageError
from nas.evaluate.metrics import calibration_error, confusion, most_confused, per_class, summary
from nas.evaluate.predict import runner
from nas.evaluate.robust import ALEXNET_ERROR, CORRUPTIONS, Corrupt, columns_for, mean_corruption_error
from nas.export.images import normalised
from search import main
from tests.fastvit.test_fusion import narrow

RNG = np.random.default_rng(0)


def test_figures_are_those_of_scikit_learn() -> None:
    logits, labels = RNG.normal(size=(200, 8)).astype(np.float32), RNG.integers(8, size=200)
    logits[np.arange(200), labels] += 1
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = summary(logits, labels)
    assert found["top1"] == pytest.approx(100 * top_k_accuracy_score(labels, logits, k=1))
    assert found["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, logits, k=5))
    assert found["nll"] == pytest.approx(log_loss(labels, p), rel=1e-5)
    counts = confusion(logits, labels)
    assert (counts == confusion_matrix(labels, logits.argmax(1))).all()
    assert np.mean([r for r in per_class(counts) if r is not None]) == pytest.approx(
        100 * np.mean(np.diag(counts) / counts.sum(1)))
    worst = most_confused(counts, tuple("abcdefgh"), 1)[0]
    assert worst["class"] != worst["taken_for"]
    assert worst["images"] == max(counts[i, j] for i in range(8) for j in range(8) if i != j)


def test_calibration_error_by_hand() -> None:
    # Two images at 0.95, one right: a gap of 0.45 in half of the images; two at 0.55, both right: the same.
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.55, 0.45]])
    assert calibration_error(p, np.array([0, 1, 0, 0])) == pytest.approx(0.45)
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0


def test_alexnet_is_a_hundred() -> None:
    errors = {name: [value] * 5 for name, value in ALEXNET_ERROR.items()}
    assert mean_corruption_error(errors, normalised=True) == pytest.approx(100)
    assert mean_corruption_error({name: [0.2, 0.4] for name in CORRUPTIONS}, normalised=False) == pytest.approx(30)


def test_class_folders_find_their_outputs() -> None:
    columns, note = columns_for(("cat", "dog", "emu"), 3, ("dog", "emu"))
    assert columns.tolist() == [1, 2]
    assert "2 of 3" in note
    columns, note = columns_for((), 1000, ("n01440764", "n01484850"))
    assert columns.tolist() == [0, 2]
    assert "WordNet" in note
    assert "order" in columns_for(("x", "y"), 2, ("dog", "emu"))[1]
    with pytest.raises(UsageError, match="'gnu' is none"):
        columns_for(("cat", "dog", "emu"), 3, ("cat", "gnu"))


def pictures(folder: Path, classes: tuple[str, ...], count: int, seed: int = 0) -> list[tuple[np.ndarray, int]]:
    made = []
    rng = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
            made.append((pixels, label))
    return made


def exported(tmp_path: Path, classes: int, *more: str) -> Path:
    path = tmp_path / "c.json"
    path.write_text(narrow(PRESETS["t8"]).to_json())
    assert main(["export", str(path), "--name", "my_net", "--to", str(tmp_path), "--resolution", "64",
                 "--num-classes", str(classes), *more]) == 0
    return tmp_path / "my_net"


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_subset_of_imagenet_is_judged_by_its_classes_alone(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported(tmp_path, 1000)
    made = pictures(tmp_path / "imagenet-a", ("n01484850", "n01498041", "n01531178"), 8)
    (tmp_path / "imagenet-a" / "n01484850" / "broken.png").write_bytes(b"none")
    found = evaluated(capsys, str(folder), "--data", str(tmp_path / "imagenet-a"), "--confusion",
                      str(tmp_path / "confusion.csv"))
    assert "3 of 1000 classes" in found["note"]
    # By hand: the crop of recipe.yaml is 0.9 of the side, here made by the plain pipeline of timm.
    from timm.data import create_transform

    change = create_transform(64, crop_pct=0.9, interpolation="bicubic")
    images = np.stack([change(Image.fromarray(pixels)).numpy() for pixels, _ in made])
    logits = runner(folder, "fused")(images)[:, [2, 6, 11]]
    right = (logits.argmax(1) == np.array([label for _, label in made])).mean()
    for form in ("fused", "unfused", "onnx"):
        assert found["forms"][form]["top1"] == pytest.approx(100 * right)
        assert found["forms"][form]["images"] == 24
        assert found["forms"][form]["unreadable"] == 1
    table = list(csv.reader((tmp_path / "confusion.csv").open()))
    assert np.array([row[1:] for row in table[1:]], int).tolist() == found["confusion"]


def test_a_tree_of_imagenet_c(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported(tmp_path, 2)
    for number, name in enumerate(("noise/gaussian_noise", "fog")):
        for level in range(1, 6):
            pictures(tmp_path / "c" / name / str(level), ("a", "b"), 3, seed=10 * number + level)
    found = evaluated(capsys, str(folder), "--data", str(tmp_path / "c"), "--forms", "fused")["forms"]["fused"]
    assert set(found["errors"]) == {"gaussian_noise", "fog"}
    assert all(len(errors) == 5 for errors in found["errors"].values())
    # Two classes and two corruptions are not the published set: AlexNet's errors would mean nothing.
    assert found["mean_corruption_error_unnormalised"] == pytest.approx(
        np.mean([np.mean(errors) for errors in found["errors"].values()]))
    assert "mce" not in found


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "glass_blur", "fog"])
def test_corruptions_are_the_same_every_time(name: str) -> None:
    pytest.importorskip("imagecorruptions")
    image = Image.fromarray(RNG.integers(0, 255, (80, 100, 3), np.uint8))
    before = np.random.get_state()[1].copy()
    mild, strong = Corrupt(name, 1, 64), Corrupt(name, 5, 64)
    first = np.asarray(strong(image, 7))
    assert (np.random.get_state()[1] == before).all()
    assert (first == np.asarray(strong(image, 7))).all()
    assert first.shape == (64, 64, 3)
    plain = np.asarray(image.crop((10, 0, 90, 80)).resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(first - plain).mean() > np.abs(np.asarray(mild(image, 7)) - plain).mean()


def test_corrupt_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("imagecorruptions")
    folder = exported(tmp_path, 10)
    found = evaluated(capsys, str(folder), "--data", "digits", "--forms", "fused", "--corrupt", "contrast,pixelate",
                      "--limit", "12")
    values = found["forms"]["fused"]
    assert values["images"] == 12
    assert set(values["errors"]) == {"contrast", "pixelate"}
    assert main(["evaluate", str(folder), "--data", "digits", "--corrupt", "sepia"]) == 2


def test_other_sizes_and_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported(tmp_path, 10)
    words = [str(folder), "--data", "digits", "--limit", "8"]
    assert set(evaluated(capsys, *words, "--resolution", "96")["forms"]) == {"fused", "unfused"}
    assert set(evaluated(capsys, *words, "--forms", "my_net.onnx")["forms"]) == {"my_net.onnx"}
    assert main(["evaluate", *words, "--resolution", "96", "--forms", "onnx"]) == 2
    assert main(["evaluate", *words, "--forms", "coreml"]) == 2
    assert main(["evaluate", *words[:1], "--data", str(tmp_path / "none")]) == 2
    assert main(["evaluate", str(tmp_path), "--data", "digits"]) == 2
    assert main(["evaluate", *words]) == 0
    assert "top-1" in capsys.readouterr().out
    # The images reach the network as it expects them.
    x = normalised(RNG.integers(0, 255, (2, 64, 64, 3), np.uint8))
    assert np.allclose(runner(folder, "fused")(x), runner(folder, "onnx")(x), rtol=1e-3, atol=1e-4)
