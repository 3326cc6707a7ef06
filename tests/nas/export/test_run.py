"""Between runs and folders: a trial's proxy, its classes and its latency go out; a variant comes in as an anchor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from PIL import Image

from fastvit import PRESETS, FastViTConfig
from nas.data import load_task
from nas.data.folder import whole_task
from nas.errors import UsageError
from nas.export import find, load
from nas.proxy import score
from nas.proxy.full import hits, train_full
from nas.proxy.full_recipe import BATCH, FullRecipe
from nas.proxy.keep import full_weights_path, keep_weights, weights_path
from nas.proxy.net import proxy_config
from nas.runs.measurement import Origin
from nas.runs.run import Run
from nas.runs.trained import Trained
from search import main
from space import SearchSpace
from tests.fastvit.test_fusion import narrow
from tests.nas.trials import measured, meta

CONFIG = SearchSpace.load("default").sample(np.random.default_rng(3)).replace(depths=(1, 1, 1, 1))


def make_run(path: Path, record: dict, task: str = "digits", resolution: int = 64) -> Run:
    """A run with one finished trial, as a worker would have left it."""
    held = load_task(task, resolution=resolution)
    run = Run.create(path, meta(budget_ms=5.0, device="onnxruntime", task=task, resolution=resolution, steps=2,
                                task_fingerprint=held.fingerprint, num_classes=held.num_classes))
    study = optuna.create_study(study_name=run.meta.id, storage=run.storage, directions=["minimize", "maximize"])
    study.enqueue_trial({})
    trial = study.ask()
    trial.set_user_attr("record", {"outcome": "complete", "config": CONFIG.to_dict(), "config_key": CONFIG.key(),
                                   "score": 0.5, "scores": [{"step": 2, "score": 0.5, "score_sd": 0.1}],
                                   "latency": measured(1.0).to_dict()} | record)
    study.tell(trial, [1.0, 0.5])
    return run


def test_a_proxy_goes_out_as_what_it_is(tmp_path: Path) -> None:
    task = load_task("digits", resolution=64)
    checkpoint = tmp_path / "c.pt"
    scored = score(CONFIG, task, steps=2, checkpoint=checkpoint)
    run = make_run(tmp_path / "run", {"score": scored.score, "score_origin": "trained"})
    keep_weights(checkpoint, weights_path(run.path, 0))
    assert weights_path(run.path, 0).stat().st_size < checkpoint.stat().st_size / 4
    words = ["export", str(run.path), "--trial", "0", "--name", "proxy_net", "--to", str(tmp_path)]
    assert main([*words, "--weights", "proxy"]) == 0
    sheet = json.loads((tmp_path / "proxy_net" / "fastvit.json").read_text())
    assert sheet["weights"].startswith("PROXY")
    assert sheet["config"] == proxy_config(CONFIG).to_dict()
    assert sheet["mean"] == [0.5, 0.5, 0.5]
    assert main(["verify", str(tmp_path / "proxy_net")]) == 0
    # The exported network is the one that was scored: the same class skill on the same images.
    batch = task.val.batch(np.arange(len(task.val)), task.proxy_pixels)
    images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    with torch.no_grad():
        logits = load(tmp_path / "proxy_net")(images)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels))
    assert 1 - loss.item() / np.log(10) == pytest.approx(scored.score, abs=5e-3)
    assert main([*words, "--weights", "proxy", "--resolution", "64"]) == 2


def test_why_there_is_no_proxy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", {"score_origin": "shipped"})
    words = ["--name", "abc", "--to", str(tmp_path), "--weights", "proxy"]
    assert main(["export", str(run.path), "--trial", "0", *words]) == 2
    assert "came with the project" in capsys.readouterr().err
    assert main(["export", "t8", *words]) == 2


def test_a_trial_brings_the_classes_of_its_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "emu"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8))
            image.save(tmp_path / "data" / name / f"{number}.png")
    run = make_run(tmp_path / "run", {}, task=str(tmp_path / "data"))
    assert find(str(run.path), 0).class_names == ("cat", "dog", "emu")
    (tmp_path / "data" / "emu").rename(tmp_path / "emu")
    assert find(str(run.path), 0).class_names == ()
    assert find(str(run.path), 0).num_classes == 3


def exported(tmp_path: Path, config: FastViTConfig, name: str = "my_net") -> Path:
    path = tmp_path / f"{name}.json"
    path.write_text(config.to_json())
    assert main(["export", str(path), "--name", name, "--to", str(tmp_path / "out"), "--resolution", "64",
                 "--formats", "timm"]) == 0
    return tmp_path / "out" / name


def test_a_variant_comes_in_as_an_anchor(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {})
    inside = exported(tmp_path, CONFIG)
    outside = exported(tmp_path, narrow(PRESETS["sa12"]), "other_net")
    assert main(["import", str(inside), "--run", str(run.path)]) == 0
    assert main(["import", str(outside), "--run", str(run.path), "--name", "beside"]) == 0
    assert main(["import", str(inside), "--run", str(run.path)]) == 2  # an anchor of that name is there
    waiting = [t for t in Run.open(run.path).study.get_trials() if t.state.name == "WAITING"]
    assert [t.user_attrs["anchor"] for t in waiting] == ["my_net", "beside"]
    space = SearchSpace.load("default")
    assert space.suggest(optuna.trial.FixedTrial(waiting[0].system_attrs["fixed_params"])) == CONFIG
    assert FastViTConfig.from_dict(waiting[1].user_attrs["config"]) == narrow(PRESETS["sa12"])
    # Its weights start a trial warm; here the trial is the same network, so that they arrive unchanged.
    assert main(["export", str(run.path), "--trial", "0", "--name", "warm", "--to", str(tmp_path), "--formats", "timm",
                 "--inherit", str(run.path / "imported" / "my_net"), "--calibration", "digits"]) == 0
    warm, given = load(tmp_path / "warm"), load(inside)
    assert torch.equal(warm.stem[0].convs[0].conv.weight, given.stem[0].convs[0].conv.weight)
    assert json.loads((tmp_path / "warm" / "fastvit.json").read_text())["provenance"]["inherited_from"] == "my_net"


def test_a_damaged_variant_stays_out(tmp_path: Path) -> None:
    from nas.export.importing import import_variant

    run, folder = make_run(tmp_path / "run", {}), exported(tmp_path, CONFIG)
    with pytest.raises(UsageError, match="no run"):
        import_variant(folder, tmp_path / "out")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-9] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(UsageError, match=r"model\.safetensors: changed"):
        import_variant(folder, run.path)
    assert not list(run.path.glob("imported/*"))


def test_latency_is_measured_for_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas.latency

    def measured(config: FastViTConfig, device: str, *, resolution: int) -> nas.latency.Measurement:
        return nas.latency.Measurement("x", config.key(), device, Origin.MEASURED, resolution, 1.234, 1.2, 1.3,
                                       samples={"trial_ms": [1.2, 1.3]})

    monkeypatch.setattr(nas.latency, "measure", measured)
    path = tmp_path / "small.json"
    path.write_text(narrow(PRESETS["t8"]).to_json())
    assert main(["export", str(path), "--name", "timed", "--to", str(tmp_path), "--resolution", "64", "--formats",
                 "timm", "--device", "onnxruntime"]) == 0
    found = json.loads((tmp_path / "timed" / "latency.json").read_text())
    assert found["origin"] == "measured"
    assert found["samples"] == {"trial_ms": [1.2, 1.3]}
    assert "1.234 ms [1.200, 1.300]" in (tmp_path / "timed" / "README.md").read_text()


def test_real_images_in_the_parity(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(narrow(PRESETS["t8"]).to_json())
    assert main(["export", str(path), "--name", "seen", "--to", str(tmp_path), "--resolution", "64",
                 "--calibration", "digits"]) == 0
    parity = json.loads((tmp_path / "seen" / "parity.json").read_text())
    assert set(parity["seen.onnx"]) == {"random", "real", "structured", "calibration"}
    assert "calibration images" in (tmp_path / "seen" / "README.md").read_text()


def test_a_card_says_how_the_trial_stands_in_its_run(tmp_path: Path) -> None:
    from dashboard import demo
    from nas.export.card import _numbers
    from nas.export.variant import Variant
    from nas.report.decision import decided_front
    from nas.runs.marks import Mark, write_mark

    run = demo.make(tmp_path / "run", 20)
    front = decided_front(run)
    pick = front["recommendation"]["trial"]
    write_mark(run, pick, Mark(note="for the doorbell"))
    worst = front["points"][0]["trial"]
    assert worst != pick
    for trial, said in ((pick, f"In its run: the run's recommendation: {front['recommendation']['headline']}."),
                        (worst, "not the run's recommendation, which is")):
        source = find(str(run.path), trial)
        words = _numbers(Variant("mine", source.config, None, 64, (), "none", source.provenance,  # type: ignore[arg-type]
                                 source.latency))
        assert said in words
        assert "Beside a preset of that run: against" in words
        assert ("Note: for the doorbell." in words) == (trial == pick)


def trained_run(tmp_path: Path) -> tuple[Run, Trained]:
    """A run on photographs whose only trial another one trained at full width."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            picture = rng.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "photos" / name / f"{number}.png")
    run = make_run(tmp_path / "run", {}, str(tmp_path / "photos"), 32)
    recipe = FullRecipe(BATCH, 32, 32)
    found = train_full(CONFIG, whole_task(tmp_path / "photos", 32, 0), recipe, checkpoint=tmp_path / "c.pt",
                       weights=full_weights_path(run.path, 0), on_rung=lambda *_: None)
    trained = Trained(1, found.hits, found.images, found.held_out, BATCH, 32, 32, "random weights", found.cpu_s,
                      recipe.to_dict())
    run.study.enqueue_trial({}, user_attrs={"trains": 0, "config": CONFIG.to_dict(), "recipe": recipe.to_dict()})
    trial = run.study.ask()
    trial.set_user_attr("record", {"outcome": "complete", "trains": 0, "config": CONFIG.to_dict(),
                                   "config_key": CONFIG.key(), "score": trained.top1, "full": trained.to_dict()})
    run.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return run, trained


def test_what_was_trained_in_the_search_goes_home_and_is_trained_on(tmp_path: Path) -> None:
    run, trained = trained_run(tmp_path)
    words = [str(run.path), "--trial", "0", "--to", str(tmp_path)]
    assert main(["export", *words, "--name", "net_one"]) == 0
    folder = tmp_path / "net_one"
    sheet = json.loads((folder / "fastvit.json").read_text())
    assert "trained in the search on photos: 64 images at 32 px" in sheet["weights"]
    assert sheet["accuracy"]["top1"] == pytest.approx(100 * trained.top1)
    assert sheet["class_names"] == ["cat", "dog"]
    card = (folder / "README.md").read_text()
    assert "In the search itself, in the lean form" in card
    assert f"top-1 {100 * trained.top1:.1f} %" in card
    # The exported network is the one that was judged: the same hits on the same images, normalised as the sheet says.
    task, model = whole_task(tmp_path / "photos", 32, 0), load(folder)
    assert sheet["mean"] == sheet["std"] == [0.5, 0.5, 0.5]
    assert hits(model, task, np.arange(trained.images), 32).sum() == trained.hits
    assert main(["verify", str(folder)]) == 0
    # Training goes on from them by itself, and other weights lose the label.
    assert main(["train", *words, "--name", "net_two", "--data", str(tmp_path / "photos"), "--epochs", "1",
                 "--batch-size", "4", "--lr", "1e-9"]) == 0
    further = json.loads((tmp_path / "net_two" / "fastvit.json").read_text())
    assert further["provenance"]["training"]["started_from"] == sheet["weights"]
    assert torch.allclose(load(tmp_path / "net_two").stem[0].convs[0].conv.weight,
                          model.stem[0].convs[0].conv.weight, atol=1e-5)
    assert main(["export", *words, "--name", "net_three", "--num-classes", "7"]) == 0
    other = json.loads((tmp_path / "net_three" / "fastvit.json").read_text())
    assert other["accuracy"] is None
    assert "trained_in_search" not in other["provenance"]
