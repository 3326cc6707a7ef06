"""An exported folder proves itself, and a damaged one is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from fastvit import PRESETS, SUCCESSORS, FastViTConfig
from nas.errors import UsageError
from nas.export import Options, Variant, export, find, load, verify
from nas.export.formats import FORMATS
from nas.export.parity import stressed
from nas.export.weights import random_model
from search import main
from space import SearchSpace
from tests.fastvit.test_fusion import narrow

SMALL = narrow(PRESETS["sa12"]).replace(depths=(1, 1, 1, 1))
STOCK = PRESETS["t8"].replace(depths=(1, 1, 1, 1), widths=(16, 32, 64, 128))


def variant(config: FastViTConfig, name: str = "my_net", **rest: object) -> Variant:
    return Variant(name, config, stressed(random_model(config, 10)), 64, **rest)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = export(variant(SMALL), tmp_path, ["timm", "onnx"])
    assert not made.failed
    return made.folder


def test_every_form_agrees(folder: Path) -> None:
    parity = json.loads((folder / "parity.json").read_text())
    assert {"fused", "model.safetensors", "my_net.onnx"} <= parity.keys()
    assert all(kind["relative"] < 1e-4 for form in parity.values() if isinstance(form, dict) for kind in form.values())
    assert all(line.ok for line in verify(folder))
    assert {p.name for p in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "fastvit.json", "my_net.onnx", "my_net.py", "parity.json",
        "recipe.yaml", "SHA256SUMS"}


@pytest.mark.parametrize("name", ["my_net.onnx", "model.safetensors", "README.md"])
def test_a_flipped_byte_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 0x40
    (folder / name).write_bytes(data)
    assert any(not line.ok and name in line.text for line in verify(folder))
    assert main(["verify", str(folder)]) == 1


def test_other_weights_with_right_sums_are_found(folder: Path, tmp_path: Path) -> None:
    from nas.export.folder import write_sums

    other = export(Variant("my_net", SMALL, random_model(SMALL, 10, seed=1).eval(), 64), tmp_path / "other", ["onnx"])
    (folder / "my_net.onnx").write_bytes((other.folder / "my_net.onnx").read_bytes())
    write_sums(folder)
    bad = [line for line in verify(folder) if not line.ok]
    assert [line.file for line in bad] == ["my_net.onnx"]


def test_stock_timm_loads_what_it_can_express(tmp_path: Path) -> None:
    given = variant(STOCK)
    folder = export(given, tmp_path, ["timm"]).folder
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(x), given.model(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(load(folder)(x), given.model(x))
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "fastvit_t8"
    assert "apple" not in json.dumps(config).lower()
    assert not (folder / "my_net.py").exists()


def test_the_module_registers_the_rest(folder: Path) -> None:
    code = ("import sys, timm, torch, my_net; name = 'local-dir:' + sys.argv[1]; "
            "m = timm.create_model(name, pretrained=True).eval(); x = torch.zeros(1, 3, 64, 64); "
            "f = timm.create_model(name, pretrained=True, features_only=True).eval(); "
            "print(m(x).abs().sum().item(), *[m.abs().sum().item() for m in f(x)])")
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": f"{folder}:{Path.cwd()}", "PATH": "", "OMP_NUM_THREADS": "1"})
    total, *maps = map(float, done.stdout.split())
    with torch.no_grad():
        model, x = load(folder), torch.zeros(1, 3, 64, 64)
        assert total == pytest.approx(model(x).abs().sum().item(), rel=1e-4)
        assert maps == pytest.approx([m.abs().sum().item() for m in model.forward_features(x)], rel=1e-4)


def test_onnx_says_what_it_is(tmp_path: Path) -> None:
    given = variant(SMALL, options=Options(dynamic_batch=True), class_names=tuple("abcdefghij"))
    folder = export(given, tmp_path, ["onnx"]).folder
    session = onnxruntime.InferenceSession(folder / "my_net.onnx")
    assert session.run(None, {"image": np.zeros((3, 3, 64, 64), np.float32)})[0].shape == (3, 10)
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["config_key"] == SMALL.key()
    assert json.loads(meta["class_names"]) == list("abcdefghij")


def test_names_and_places_are_checked(folder: Path) -> None:
    for name in ("../x", "My_Net", "ab", "x" * 42, "1net", "a-b", "net\n"):
        with pytest.raises(UsageError, match="--name"):
            export(variant(SMALL, name), folder.parent)
    with pytest.raises(UsageError, match="never overwritten"):
        export(variant(SMALL), folder.parent)
    with pytest.raises(UsageError, match="--formats"):
        export(variant(SMALL, "other"), folder.parent, ["gguf"])
    assert sorted(p.name for p in folder.parent.iterdir()) == ["my_net"]


def test_a_failed_format_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.export import onnx_model

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_model, "to_onnx", fail)
    made = export(variant(SMALL), tmp_path, ["onnx", "timm"])
    assert made.failed == {"onnx": "no such operator"}
    assert "no such operator" in (made.folder / "README.md").read_text()
    assert all(line.ok for line in verify(made.folder))


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.export import folder as module

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_sums", stop)
    with pytest.raises(KeyboardInterrupt):
        export(variant(SMALL), tmp_path, ["timm"])
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SearchSpace.load("default").sample(np.random.default_rng(0)).replace(depths=(1, 1, 1, 1))
    path = tmp_path / "mine.json"
    path.write_text(config.to_json())
    words = ["export", str(path), "--name", "mine", "--to", str(tmp_path / "out"), "--resolution", "64",
             "--num-classes", "7", "--json"]
    assert main(words) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["verify", made["folder"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert main(words) == 2
    assert find(made["folder"]).num_classes == 7
    # Once more from the folder: the same weights under a new name.
    assert main(["export", made["folder"], "--name", "again", "--to", str(tmp_path / "out"), "--formats", "onnx"]) == 0
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load(made["folder"])(x), load(tmp_path / "out" / "again")(x))
    assert main(["export", "t8", "--trial", "3", "--name", "abc", "--to", str(tmp_path)]) == 2
    assert main(["verify", str(tmp_path)]) == 2


def test_core_ml_options(tmp_path: Path) -> None:
    import coremltools

    given = variant(SMALL, class_names=tuple("abcdefghij"), options=Options(image_input=True, int8=True))
    made = export(given, tmp_path, ["coreml"])
    assert not made.failed
    sizes = {}
    for path in made.folder.glob("*.mlpackage"):
        spec = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()
        assert spec.description.input[0].type.WhichOneof("Type") == "imageType"
        assert spec.description.predictedFeatureName == "class_label"
        assert spec.description.metadata.userDefined["config"] == SMALL.to_json()
        sizes[path.stem] = (spec.specificationVersion, sum(p.stat().st_size for p in path.rglob("*") if p.is_file()))
    assert [sizes[f"my_net_{t}"][0] for t in ("ios16", "ios18", "ios18_int8")] == [7, 9, 9]
    assert sizes["my_net_ios18_int8"][1] < 0.75 * sizes["my_net_ios18"][1]
    assert "macOS only" in json.loads((made.folder / "parity.json").read_text())["my_net_ios16.mlpackage"]["not_run"]
    assert all(line.ok for line in verify(made.folder))


def test_int8_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(SMALL.to_json())
    words = ["export", str(path), "--to", str(tmp_path), "--resolution", "64", "--int8", "--num-classes", "10"]
    assert main([*words, "--name", "mine", "--calibration", "digits"]) == 0
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "mine").iterdir()}
    assert sizes["mine_int8.onnx"] < 0.7 * sizes["mine.onnx"]
    assert main([*words, "--name", "other"]) == 2
    assert main([*words, "--name", "other", "--calibration", str(tmp_path)]) == 2
    assert main([*words, "--name", "other", "--formats", "onnx-int8,coreml"]) == 1  # no images: a failed format
    assert main(["verify", str(tmp_path / "other")]) == 0


@pytest.mark.parametrize("name", FORMATS)
def test_the_contract_of_a_format(name: str, tmp_path: Path) -> None:
    from nas.errors import NotAvailable
    from nas.export.formats import format_named
    from nas.export.images import probe_images
    from nas.export.parity import compare, module_runner, worst

    found = format_named(name)
    why = found.missing()
    if why is not None:
        assert why.startswith("needs ")
        pytest.skip(why)
    given = variant(SMALL, options=Options(calibration=probe_images(64)["real"]))
    before = {key: value.clone() for key, value in given.model.state_dict().items()}
    # fastvit.json is there before a format loads.
    folder = export(given, tmp_path, ["timm"]).folder
    artefacts = found.write(given, folder)
    assert artefacts
    assert len({a.file for a in artefacts}) == len(artefacts)
    assert all(torch.equal(before[key], value) for key, value in given.model.state_dict().items())
    assert not given.model.training
    for artefact in artefacts:
        assert (folder / artefact.file).exists()
        assert artefact.tolerance > 0
        try:
            runner = found.load(folder, artefact)
        except NotAvailable:
            continue
        probes = probe_images(64)
        assert worst(compare(module_runner(given.model), runner, probes)) <= artefact.tolerance
        logits = runner(probes["random"])
        assert logits.shape == (2, 10)
        assert logits.dtype == np.float32


@pytest.mark.parametrize("config", [SMALL, STOCK, SMALL.replace(branches=0), narrow(SUCCESSORS["mci3"])],
                         ids=["own", "stock", "lean", "mci3"])
@pytest.mark.parametrize("classes", [5, 0])
@pytest.mark.parametrize("channels", [1, 4])
@torch.no_grad()
def test_timm_adapts_head_and_stem(config: FastViTConfig, classes: int, channels: int, tmp_path: Path) -> None:
    from nas.export import timm_folder

    given = variant(config, f"net_{config.key()}", class_names=tuple("abcdefghij"))
    (artefact,) = timm_folder.write(given, tmp_path)
    (tmp_path / "fastvit.json").write_text(json.dumps({"name": given.name, "config": config.to_dict()}))
    timm_folder.load(tmp_path, artefact)  # registers what stock timm cannot express
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=classes, in_chans=channels).eval()
    x = torch.randn(2, channels, 64, 64)
    assert model(x).shape == (2, classes or given.model.num_features)
    # The features are those of the trained network on an image of equal channels, as timm adapts a stem.
    gray = torch.randn(2, 1, 64, 64).expand(-1, 3, -1, -1)
    if channels == 1:
        expected = given.model.expand(given.model.forward_features(gray)[-1]).mean((2, 3))
        found = model.forward_head(model.forward_features(gray[:, :1]), pre_logits=True)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
