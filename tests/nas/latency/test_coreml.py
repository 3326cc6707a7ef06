"""Core ML: conversion as it is; measuring against a stand-in of coremltools' interface, for there is no Mac here."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastvit import FastViTConfig
from nas.errors import Failure, NotAvailable
from nas.latency import coreml, measure
from nas.latency.devices import check_device, runtime
from nas.latency.network import Network
from nas.latency.runtime import Setting
from search import main

SETTING = Setting(32, precision="fp16")


class Model:
    """coremltools.models.MLModel: predicts nothing, in a millisecond by its own clock."""

    loaded: list = []  # noqa: RUF012
    told: int | None = 1_000_000

    def __init__(self, path: str, compute_units: str = "ALL", skip_model_load: bool = False) -> None:
        assert Path(path).name == "network.mlpackage"
        self.loaded.append((compute_units, skip_model_load))
        self.calls = 0

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert inputs["image"].shape == (1, 3, 32, 32)
        self.calls += 1
        return {"logits": np.zeros(1000)}

    @property
    def last_predict_duration_in_nano_seconds(self) -> int | None:
        return self.told if self.calls else None


class Phone:
    name, os_version, calls = "iPhone 12 Pro", "18.1", 0
    connected = True

    @classmethod
    def get_connected_devices(cls, kind: str) -> list["Phone"]:
        assert kind == "iPhone"
        return [cls()] if cls.connected else []

    async def prepare_for_model_debugging(self, credentials: dict) -> str:
        assert credentials == {"development_team": "TEAM"}
        return "prepared"


class Benchmarker:
    def __init__(self, model: Model, device: str) -> None:
        assert device == "prepared"

    async def benchmark_predict(self, inputs: dict, iterations: int = 1) -> types.SimpleNamespace:
        Phone.calls += iterations
        return types.SimpleNamespace(samples=[0.8] * iterations)


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    units = types.SimpleNamespace(**{name: name for name in coreml.UNITS.values()})
    experimental = "coremltools.models.ml_program.experimental"
    modules = {
        "coremltools": types.SimpleNamespace(ComputeUnit=units, models=types.SimpleNamespace(MLModel=Model)),
        f"{experimental}.perf_utils": types.SimpleNamespace(MLModelBenchmarker=Benchmarker),
        f"{experimental}.remote_device": types.SimpleNamespace(
            Device=Phone, DeviceType=types.SimpleNamespace(IPHONE="iPhone"), AppSigningCredentials=dict)}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("coremltools.models", "coremltools.models.ml_program", experimental):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    saved = types.SimpleNamespace(save=lambda path: Path(path).mkdir())
    monkeypatch.setattr(coreml, "convert", lambda module, shape, target: saved)
    monkeypatch.setattr(coreml, "find_spec", lambda name: True)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(Model, "loaded", [])
    monkeypatch.setenv(coreml.TEAM, "TEAM")
    for kept in (coreml.package, coreml._phone, coreml._prepared):
        kept.cache_clear()
    yield
    for kept in (coreml.package, coreml._phone, coreml._prepared):
        kept.cache_clear()


@pytest.mark.parametrize(("device", "units"), [("coreml", "ALL"), ("coreml:cpu", "CPU_ONLY"),
                                               ("coreml:gpu", "CPU_AND_GPU"), ("coreml:ne", "CPU_AND_NE")])
@pytest.mark.usefixtures("mac")
def test_the_predict_call_alone_is_timed_on_each_unit(tiny: FastViTConfig, device: str, units: str) -> None:
    check_device(device)
    chosen = runtime(device)
    assert chosen.name == device
    session = chosen.prepare(Network(config=tiny), SETTING)
    assert Model.loaded == [(units, False)]
    assert session.block(5) == pytest.approx(5e-3)
    assert session.clock == "wall"


@pytest.mark.usefixtures("mac")
def test_a_core_ml_that_tells_no_time_is_a_failure(tiny: FastViTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "told", None)
    with pytest.raises(Failure, match="no time"):
        runtime("coreml").prepare(Network(config=tiny), SETTING).block(1)


@pytest.mark.usefixtures("mac", "quick")
def test_measured_by_the_one_protocol(tiny: FastViTConfig) -> None:
    found = measure(tiny, "coreml:ne", resolution=32)
    assert (found.latency_ms, found.precision, found.device) == (pytest.approx(1.0), "fp16", "coreml:ne")


@pytest.mark.usefixtures("mac", "quick")
def test_a_phone_is_called_once_a_block(tiny: FastViTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "iPhone 12 Pro iOS 18.1" in runtime("coreml:iphone").version()
    found = measure(tiny, "coreml:iphone", resolution=32)
    assert found.latency_ms == pytest.approx(0.8)
    assert Phone.calls < 2000  # blocks of a CPU would have asked for 25 calls each
    monkeypatch.setattr(Phone, "connected", False)
    coreml._phone.cache_clear()
    with pytest.raises(NotAvailable, match="iPhone that is connected"):
        check_device("coreml:iphone")


@pytest.mark.usefixtures("mac")
def test_a_phone_needs_a_signing_team(tiny: FastViTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(coreml.TEAM)
    with pytest.raises(NotAvailable, match=coreml.TEAM):
        runtime("coreml:iphone").prepare(Network(config=tiny), SETTING)


@pytest.mark.skipif(sys.platform == "darwin", reason="there it measures")
def test_elsewhere_it_converts_and_says_what_measuring_needs(
        tiny: FastViTConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("coremltools")
    (tmp_path / "tiny.json").write_text(tiny.to_json())
    assert main(["measure", str(tmp_path / "tiny.json"), "--device", "coreml", "--resolution", "32"]) == 1
    said = capsys.readouterr().err
    assert "tiny: converts for iOS16, package of 0.3 MB" in said
    assert "needs macOS" in said
