"""The contract of a runtime, which every one that can be used here passes."""

import pytest

from fastvit import FastViTConfig
from nas.errors import Failure, NotAvailable, UsageError
from nas.latency.devices import canonical, check_device, check_setting, devices, runtime
from nas.latency.network import Network
from nas.latency.runtime import Setting

HERE = [status.name for status in devices() if status.usable and status.origin == "measured"]


@pytest.mark.parametrize("device", HERE)
def test_contract(device: str, tiny: FastViTConfig) -> None:
    chosen = runtime(device)
    assert chosen.name == device
    assert any(letter.isdigit() for letter in chosen.version())
    assert chosen.precisions[0] == "fp32"
    for precision in chosen.precisions:
        setting = Setting(resolution=32, batch=2, precision=precision)
        check_setting(chosen, setting)
        refused = ""
        try:
            session = chosen.prepare(Network(config=tiny), setting)
        except Failure as error:
            refused = str(error)
        if refused:  # this processor lacks it, and the sentence says so
            assert precision in refused
            continue
        assert session.clock in ("cpu", "wall")
        one, many = session.block(1), session.block(20)
        assert one > 0
        assert many > session.block(1)


@pytest.mark.parametrize("device", HERE)
def test_several_threads_are_timed_by_the_wall(device: str, tiny: FastViTConfig) -> None:
    chosen = runtime(device)
    if not chosen.threads:
        pytest.skip("no threads to choose")
    assert chosen.prepare(Network(config=tiny), Setting(32, threads=2)).clock == "wall"
    assert chosen.prepare(Network(config=tiny), Setting(32)).clock == "cpu"


def test_every_device_is_usable_or_says_what_it_needs() -> None:
    for status in devices():
        assert status.usable or status.needs
        if not status.usable:
            with pytest.raises(NotAvailable, match="needs"):
                check_device(status.name)
    assert {"onnxruntime", "torch:cpu"} <= set(HERE)


def test_unknown_devices_and_settings_are_refused() -> None:
    assert canonical("torch") == "torch:cpu"
    with pytest.raises(UsageError, match="onnxruntime"):
        canonical("onnxruntme")
    chosen = runtime("onnxruntime")
    for setting, word in ((Setting(8), "resolution 8"), (Setting(batch=0), "batch 0"),
                          (Setting(threads=0), "threads 0"), (Setting(precision="fp8"), "precision fp8")):
        with pytest.raises(UsageError, match=word):
            check_setting(chosen, setting)
    with pytest.raises(UsageError, match="threads"):
        check_setting(runtime("torch:cuda"), Setting(threads=2))


def test_a_model_of_timm_is_measured_in_its_deployed_form() -> None:
    network = Network.of("timm:repvit_m0_9")
    network.check()
    assert network.size(224)[0] < 5.2  # 5.5 before its branches are fused
    session = runtime("onnxruntime").prepare(network, Setting(64))
    assert session.block(1) > 0
    with pytest.raises(UsageError, match="repvit"):
        Network.of("timm:repvit_m09").check()
    with pytest.raises(UsageError, match="timm:NAME"):
        Network.of("t8")
