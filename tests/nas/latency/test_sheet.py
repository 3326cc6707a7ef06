"""The latency sheet: every figure is there, and adds up."""

import json
from typing import Any

import pytest

from fastvit import PRESETS, FastViTConfig
from nas.errors import UsageError
from nas.latency import sheet as module
from nas.latency.devices import runtime
from nas.latency.network import Network
from nas.latency.runtime import Setting
from nas.latency.sheet import PARTS, sheet, words
from search import main


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions answered in this process; what was asked."""
    asked: list[str] = []

    def child(request: dict[str, Any], lock: str) -> dict[str, Any]:
        asked.append(request["what"])
        chosen: Any = runtime(request["device"])
        setting = Setting(**request["setting"])
        answer = module._ANSWERS[request["what"]](request, chosen, setting, chosen.load(module._empty(), setting))
        found: dict[str, Any] = json.loads(json.dumps(answer))
        return found

    monkeypatch.setattr(module, "_child", child)
    monkeypatch.setattr(module, "SINGLES_S", 0.1)
    return asked


@pytest.mark.parametrize("device", ["onnxruntime", "openvino"])
def test_a_sheet_is_complete(device: str, here: list[str]) -> None:
    if runtime(device).missing():
        pytest.skip(f"{device} is not installed")
    found = sheet(Network(config=PRESETS["t8"]), device, Setting(32), sustained_s=1.0)
    assert 0 < found.median_ms <= found.p90_ms <= found.p99_ms
    assert found.load_ms > found.median_ms
    assert found.first_ms > 0
    assert found.file_mb["onnx fp32"] == pytest.approx(16, abs=0.5)
    assert set(found.images_per_s) == {1, 8, 32}
    assert len(found.sustained_ms) >= 1
    assert "p99" in "\n".join(words("t8", found))
    if device == "onnxruntime":
        assert found.file_mb["onnx int8"] < found.file_mb["onnx fp32"] / 3
        assert set(found.stages_ms) == set(PARTS)
        assert found.parts_over_whole == pytest.approx(1.0, rel=0.5)
        assert "share stem" in "\n".join(words("t8", found))
    assert here.count("load") == module.LOADS


def test_the_beginnings_of_a_network_end_where_its_stages_do(tiny: FastViTConfig, tmp_path: Any) -> None:
    import onnx

    path = tmp_path / "whole.onnx"
    path.write_bytes(Network(config=tiny).onnx(32, 1))
    sides = []
    for part in module._beginnings(path, tmp_path):
        onnx.checker.check_model(model := onnx.load_model(part))
        sides.append([dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim])
    assert [shape[1:] for shape in sides[:-1]] == [[8, 8, 8], [8, 8, 8], [8, 4, 4], [16, 2, 2], [32, 1, 1]]
    assert len(sides[-1]) == 2


def test_a_runtime_that_loads_no_file_says_so(tiny: FastViTConfig) -> None:
    with pytest.raises(UsageError, match="torch:cpu loads no file"):
        sheet(Network(config=tiny), "torch:cpu", Setting(32))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_command_prints_it(tiny: FastViTConfig, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text(tiny.to_json())
    assert main(["measure", str(tmp_path / "mine.json"), "--resolution", "32", "--sheet", "--json"]) == 0
    row, = json.loads(capsys.readouterr().out)
    assert 0 < row["sheet"]["memory_mb"] < 100
