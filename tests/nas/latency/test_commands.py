"""`search.py measure` and `search.py devices`, as their output is read by people and by scripts."""

import json
from pathlib import Path

import pytest

from fastvit import FastViTConfig
from fastvit.cost import cost
from search import main

pytestmark = pytest.mark.usefixtures("quick")


def test_devices_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    found = {status["name"]: status for status in json.loads(capsys.readouterr().out)}
    assert found["onnxruntime"]["usable"]
    assert found["onnxruntime"]["precisions"] == ["fp32", "int8"]
    assert all(status["usable"] or status["needs"] for status in found.values())
    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in found)


def test_a_configuration_file_and_a_model_of_timm_by_one_protocol(
        tiny: FastViTConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text(tiny.to_json())
    words = ["measure", str(tmp_path / "mine.json"), "timm:repvit_m0_9", "--resolution", "64", "--batch", "2"]
    assert main([*words, "--json"]) == 0
    mine, other = json.loads(capsys.readouterr().out)
    assert mine["name"] == "mine"
    assert mine["config_key"] == tiny.key()
    assert mine["gmacs"] == pytest.approx(cost(tiny, 64).gmacs)
    assert mine["images_per_s"] == pytest.approx(2000 / mine["latency_ms"])
    assert mine["batch"] == other["batch"] == 2
    assert other["name"] == "timm:repvit_m0_9"
    assert other["params_m"] == pytest.approx(5.1, abs=0.1)  # as its authors count the deployed form
    assert other["gmacs"] == pytest.approx(0.82 * (64 / 224)**2, rel=0.05)
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "onnxruntime, 64 px, batch 2, fp32, measured, 1 thread" in text
    assert f"{mine['latency_ms']:.3f}" in text  # from the cache


def test_one_network_that_fails_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "timm:levit_128", "t8", "--resolution", "40", "--json"]) == 1
    said = capsys.readouterr()
    assert [row["name"] for row in json.loads(said.out)] == ["t8"]
    assert "timm:levit_128" in said.err


@pytest.mark.parametrize(("words", "expected"), [
    (["t9"], "did you mean t8"), (["timm:levit_25"], "levit_256"), (["t8", "--device", "onnx"], "onnxruntime"),
    (["t8", "--resolution", "8"], "--resolution 8"), (["t8", "--batch", "0"], "--batch 0"),
    (["t8", "--threads", "0"], "--threads 0"), (["t8", "--precision", "fp8"], "fp32, int8"),
    (["t8", "--protocol", "mean"], "warm, modelbench, paper")])
def test_refusals_name_the_value_and_what_is_offered(words: list[str], expected: str,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", *words]) == 2
    assert expected in capsys.readouterr().err
