"""What int8 costs is measured on images that calibrated nothing, and a limit refuses the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvit import PRESETS
from nas.errors import Failure
from nas.export.loss import Judged, decide, loss_of
from search import main
from tests.fastvit.test_fusion import narrow

SMALL = narrow(PRESETS["sa12"]).replace(depths=(1, 1, 1, 1))


def logits(classes: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """A function that answers these classes, whatever the images."""
    def run(images: np.ndarray) -> np.ndarray:
        start = int(images[0, 0, 0, 0])
        return np.eye(5, dtype=np.float32)[classes[start:start + len(images)]]

    return run


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)


def test_loss_counts_labels_where_there_are_some_and_changes_where_not() -> None:
    truth = [0, 1, 2, 3, 4] * 20
    reference = list(truth)
    other = list(truth)
    reference[:10] = [(c + 1) % 5 for c in truth[:10]]  # wrong in fp32, right in int8
    other[10:30] = [(c + 1) % 5 for c in truth[10:30]]  # the other way round
    found = loss_of(logits(reference), logits(other), Judged(numbered(100), np.array(truth)))
    assert (found.top1_fp32, found.top1) == (90, 80)
    assert found.points == pytest.approx(10)
    assert found.sd == pytest.approx(100 * np.std([-1] * 10 + [1] * 20 + [0] * 70) / 10)
    blind = loss_of(logits(reference), logits(other), Judged(numbered(100)))
    assert blind.points == pytest.approx(30)
    assert blind.points >= found.points
    assert "30.0 % of its decisions differ" in str(blind)


def test_a_limit_refuses_and_without_one_a_surprise_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    truth = [0] * 40
    loss = loss_of(logits(truth), logits([1] * 2 + [0] * 38), Judged(numbered(40), np.array(truth)))
    with pytest.raises(Failure, match=r"top-1 95.0 %, \+5.0 .* more than --max-loss 4"):
        decide("onnx-int8", loss, 4)
    assert capsys.readouterr().err == ""
    decide("onnx-int8", loss, 5)
    assert capsys.readouterr().err == ""
    decide("onnx-int8", loss, None)
    assert "few images" in capsys.readouterr().err


def test_the_export_says_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(4):
                picture = rng.integers(0, 255, (32, 32, 3), np.uint8)
                Image.fromarray(picture).save(tmp_path / "data" / part / name / f"{number}.png")
    (tmp_path / "mine.json").write_text(SMALL.to_json())
    words = ["export", str(tmp_path / "mine.json"), "--to", str(tmp_path), "--resolution", "32", "--num-classes", "2",
             "--int8", "--calibration", str(tmp_path / "data")]
    assert main([*words, "--name", "one"]) == 0
    note = json.loads((tmp_path / "one" / "fastvit.json").read_text())["formats"]["onnx-int8"][0]["note"]
    assert "of its decisions differ from fp32 on" in note
    assert main([*words, "--name", "two", "--judge", str(tmp_path / "data")]) == 0
    note = json.loads((tmp_path / "two" / "fastvit.json").read_text())["formats"]["onnx-int8"][0]["note"]
    assert "points lost against fp32 on 8 images" in note
    capsys.readouterr()
    for bad in (["--max-loss", "-1"], ["--max-loss", "nan"], ["--judge", str(tmp_path / "none")]):
        assert main([*words, "--name", "bad", *bad]) == 2
    assert main([*words[:-3], "--name", "bad", "--max-loss", "1"]) == 2
    assert main([*words[:-4], "3", *words[-3:], "--name", "bad", "--judge", str(tmp_path / "data")]) == 2
    assert "classes are not the network's 3" in capsys.readouterr().err


def test_a_refused_format_is_a_failed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.export import Options, Variant, export, onnx_int8
    from nas.export.loss import Loss
    from nas.export.weights import random_model

    monkeypatch.setattr(onnx_int8, "loss_of", lambda *_: Loss(3.0, 0.5, 500, 70.0, 73.0))
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    given = Variant("net", SMALL, random_model(SMALL, 2), 32,
                    options=Options(calibration=images, judged=Judged(images), max_loss=2.0))
    made = export(given, tmp_path, ["onnx-int8"])
    assert "more than --max-loss 2" in made.failed["onnx-int8"]
    assert not list(made.folder.glob("*int8*"))
