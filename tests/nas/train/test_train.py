"""Training from the command line: it learns, it survives a kill, and the folder is whole before and after."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fastvit import FastViTConfig
from nas.errors import Failure, UsageError
from nas.export import load
from nas.train.teacher import Teacher, feature_loss, load_teacher, soft_loss
from search import main

ROOT = Path(__file__).parents[3]
CONFIG = FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2), mixers=("repmixer",) * 4,
                       stem_stride=2, layer_scale_init=0.1, drop_path=0.1)
# Everything that draws at random takes part.
WORDS = ["--data", "digits", "--epochs", "2", "--batch-size", "16", "--lr", "3e-3", "--set", "epoch_images=96", "--set",
         "mixup=0.2", "--set", "aa=rand-m9-mstd0.5-inc1", "--set", "reprob=0.25", "--set", "warmup_epochs=0"]


def export(tmp_path: Path, name: str = "my_net", *more: str, classes: int = 10) -> Path:
    path = tmp_path / "config.json"
    path.write_text(CONFIG.to_json())
    assert main(["export", str(path), "--name", name, "--to", str(tmp_path), "--resolution", "32", "--num-classes",
                 str(classes), *more]) == 0
    return tmp_path / name


def start(*words: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "search.py", *words], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def rows(path: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")}
            for row in csv.DictReader(path.read_text().splitlines())]


def test_killed_and_resumed_is_as_never_killed(tmp_path: Path) -> None:
    whole, killed = export(tmp_path, "whole"), export(tmp_path, "killed")
    assert main(["train", str(whole), *WORDS]) == 0
    process = start("train", str(killed), *WORDS, "--checkpoint-minutes", "0")
    checkpoint = tmp_path / "killed.training" / "checkpoint.pt"
    step = 0
    while step < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        if checkpoint.exists():
            step = torch.load(checkpoint, weights_only=True)["step"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert torch.load(checkpoint, weights_only=True)["step"] < 12
    assert main(["verify", str(killed)]) == 0  # untouched until the end
    assert main(["train", str(killed), *WORDS]) == 2  # there is a training to go on with
    assert main(["train", str(killed), "--resume", "--lr", "1"]) == 2
    assert main(["train", str(killed), "--resume"]) == 0
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert rows(whole / "training.csv") == rows(killed / "training.csv")
    assert len(rows(whole / "training.csv")) == 2
    assert not checkpoint.exists()
    assert main(["train", str(killed), "--resume"]) == 2  # it is done


def test_two_processes(tmp_path: Path) -> None:
    folder = export(tmp_path)
    done = start("train", str(folder), *WORDS, "--epochs", "1", "--devices", "2", "--json")
    out, err = done.communicate(timeout=200)
    assert done.returncode == 0, err
    found = json.loads(out)
    assert found["accuracy"]["fused"]["images"] == 360
    assert len(rows(folder / "training.csv")) == 1
    training = json.loads((folder / "fastvit.json").read_text())["provenance"]["training"]
    assert training["devices"].startswith("2 x ")
    assert training["steps"] == 6
    assert main(["verify", str(folder)]) == 0


def test_sigterm_leaves_a_checkpoint(tmp_path: Path) -> None:
    folder = export(tmp_path)
    checkpoint = tmp_path / "my_net.training" / "checkpoint.pt"
    # In a process of its own: the signal would end a test runner that runs this outside of its main thread.
    process = start("train", str(folder), *WORDS, "--epochs", "2000", "--checkpoint-minutes", "0")
    try:
        while not checkpoint.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        checkpoint.unlink()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 143, told
    assert torch.load(checkpoint, weights_only=True)["step"] > 0
    assert f"go on with:  python search.py train {folder} --resume" in told
    assert main(["verify", str(folder)]) == 0


def test_the_folder_says_what_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown classes, one unreadable image: a folder of images trains a head of its own."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 4)):
        for value, name in ((40, "dark"), (200, "light")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(value, 20, (36, 44, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
    (tmp_path / "data" / "train" / "dark" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "data" / "val" / "dark" / "broken.jpg").write_bytes(b"no image")
    folder = export(tmp_path, "my_net", "--formats", "onnx", classes=1000)
    words = ["train", str(folder), "--data", str(tmp_path / "data"), "--epochs", "6", "--batch-size", "8", "--lr",
             "3e-3", "--set", "aa=none", "--set", "color_jitter=0", "--set", "mixup=0", "--set", "cutmix=0", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["accuracy"]["fused"]["top1"] == 100
    assert found["accuracy"]["fused"]["images"] == 8
    assert found["accuracy"]["fused"]["unreadable"] == 1
    sheet = json.loads((folder / "fastvit.json").read_text())
    assert sheet["class_names"] == ["dark", "light"]
    assert sheet["num_classes"] == 2
    assert sheet["weights"].startswith("trained on data for 6 epochs")
    assert sheet["accuracy"]["top1"] == 100
    card = (folder / "README.md").read_text()
    assert "top-1 100.00 % (train form 100.00 %)" in card
    assert "6 epochs (24 steps of 8 images at 32 px) on data, adamw" in card
    assert {p.name for p in folder.iterdir()} >= {"my_net.onnx", "training.csv", "evaluation.json", "recipe.yaml"}
    assert main(["verify", str(folder)]) == 0
    assert list((tmp_path / "my_net.training" / "tensorboard").glob("events*"))
    # Once more, from these weights, at another size and with the paper's rate for fine-tuning.
    assert main([*words[:4], "--fine-tune", "--resolution", "64", "--epochs", "1"]) == 0
    sheet = json.loads((folder / "fastvit.json").read_text())
    assert sheet["resolution"] == 64
    assert sheet["provenance"]["training"]["started_from"].startswith("trained on data for 6")
    assert "weight_decay: 1.0e-08" in (folder / "recipe.yaml").read_text()
    assert sheet["accuracy"]["top1"] >= 75


def test_what_diverges_leaves_the_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export(tmp_path)
    before = (folder / "SHA256SUMS").read_text()
    assert main(["train", str(folder), *WORDS, "--lr", "1e30", "--set", "weight_decay=0"]) == 1
    assert "diverged" in capsys.readouterr().err
    assert (folder / "SHA256SUMS").read_text() == before
    assert main(["verify", str(folder)]) == 0


def test_a_failed_end_leaves_the_folder_and_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.export import folder as module

    folder = export(tmp_path)
    before = (folder / "SHA256SUMS").read_text()

    def full(*_: object) -> None:
        raise Failure("No space left on device")

    monkeypatch.setattr(module, "write_sums", full)
    assert main(["train", str(folder), *WORDS, "--epochs", "1"]) == 1
    monkeypatch.undo()
    assert (folder / "SHA256SUMS").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "my_net", "my_net.training"]
    assert main(["train", str(folder), "--resume"]) == 0
    assert (folder / "SHA256SUMS").read_text() != before


def test_words_that_cannot_be(tmp_path: Path) -> None:
    folder = export(tmp_path)
    for words in (["--data", str(tmp_path / "none")], [], ["--data", "digits", "--batch-size", "2000"],
                  ["--data", "digits", "--epochs", "0"], ["--data", "digits", "--teacher", "timm:no_such_model"],
                  ["--data", "digits", "--set", "mixup=0.1", "--batch-size", "17"], ["--data", "digits", "--name", "x"],
                  ["--data", "digits", "--devices", "0"], ["--resume"]):
        assert main(["train", str(folder), *words]) == 2, words
    assert main(["train", "t8", "--data", "digits"]) == 2
    assert main(["train", str(tmp_path), "--data", "digits", "--name", "abc"]) == 2


@pytest.mark.parametrize("distill", ["hard", "soft", "features"])
def test_a_preset_becomes_a_variant_that_a_teacher_teaches(tmp_path: Path, distill: str) -> None:
    teacher = export(tmp_path, "teacher")
    words = ["train", str(tmp_path / "config.json"), "--name", "pupil", "--to", str(tmp_path / "out"), "--resolution",
             "32", *WORDS, "--epochs", "1", "--teacher", str(teacher), "--distill", distill, "--accumulate", "2"]
    assert main(words) == 0
    training = json.loads((tmp_path / "out" / "pupil" / "fastvit.json").read_text())["provenance"]["training"]
    assert training["teacher"] == str(teacher)
    assert main(["verify", str(tmp_path / "out" / "pupil")]) == 0
    with pytest.raises(UsageError, match="10 classes, the data has 7"):
        load_teacher(str(teacher), 7, (0.5,) * 3, (0.5,) * 3)


def test_a_teacher_sees_what_it_was_trained_on(tmp_path: Path) -> None:
    model = load(export(tmp_path))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    teacher = Teacher(model, mean.tolist(), std.tolist(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    images = torch.rand(4, 3, 32, 32)
    given = (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    own = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        logits, maps = teacher(given, maps=True)
        assert torch.allclose(logits, model(own), atol=1e-5)
        assert [one.shape[1] for one in maps] == teacher.map_widths(32) == list(model.config.widths)


def test_what_is_learned_of_a_teacher() -> None:
    logits = torch.randn(6, 5)
    assert soft_loss(logits, logits).item() == pytest.approx(0, abs=1e-6)
    assert soft_loss(logits, logits + 3).item() == pytest.approx(0, abs=1e-5)
    assert soft_loss(logits, -logits).item() > 0.1
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)]
    assert feature_loss(maps, [2 * one for one in maps]).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(maps, [-one for one in maps]).item() == pytest.approx(2, abs=1e-6)
    larger = [one.repeat_interleave(2, 2).repeat_interleave(2, 3) for one in maps]  # of a teacher with finer grids
    assert feature_loss(maps, larger).item() == pytest.approx(0, abs=1e-6)


def test_features_of_a_network_of_timm() -> None:
    import timm

    teacher = Teacher(timm.create_model("resnet18", num_classes=3), (0.5,) * 3, (0.5,) * 3, (0.5,) * 3, (0.5,) * 3)
    assert teacher.map_widths(32) == [64, 128, 256, 512]
    with pytest.raises(UsageError, match="gives no 4 maps"):
        Teacher(torch.nn.Flatten(), (0.5,) * 3, (0.5,) * 3, (0.5,) * 3, (0.5,) * 3).map_widths(32)


def test_folders_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.files import swap_folders

    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    swap_folders(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    monkeypatch.setattr(sys, "platform", "darwin")
    swap_folders(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "a").exists()
    with pytest.raises(OSError, match="none"):
        swap_folders(tmp_path / "none", tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b" / "b").exists()


@pytest.mark.slow
def test_two_processes_killed_and_resumed_are_as_never_killed(tmp_path: Path) -> None:
    whole, killed = export(tmp_path, "whole"), export(tmp_path, "killed")
    words = [*WORDS, "--devices", "2", "--epochs", "3"]
    done = start("train", str(whole), *words)
    _, err = done.communicate(timeout=280)
    assert done.returncode == 0, err
    process = start("train", str(killed), *words)
    checkpoint = tmp_path / "killed.training" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    again = start("train", str(killed), "--resume")
    _, err = again.communicate(timeout=280)
    assert again.returncode == 0, err
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert rows(whole / "training.csv") == rows(killed / "training.csv")
