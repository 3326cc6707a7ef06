"""measure(): cache, intervals, and a measuring process that dies or hangs."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fastvit import FastViTConfig
from nas import quiet
from nas.errors import Failure, UsageError
from nas.latency import Measurement, measure, measure_many, measurer, process, service
from nas.latency.runtime import Calls

pytestmark = pytest.mark.usefixtures("quick")


def test_a_measurement_has_an_interval_and_its_samples(tiny: FastViTConfig) -> None:
    found = measure(tiny, resolution=32, name="tiny")
    assert found.ci_low_ms < found.latency_ms < found.ci_high_ms
    assert len(found.samples["trial_ms"]) == len(found.samples["waited"]) >= 9
    assert found.reference_ms > found.latency_ms, "T8 is larger"
    assert (found.name, found.config_key, found.origin) == ("tiny", tiny.key(), "measured")
    assert set(found.stages_s) == {"prepare", "wait", "measure"}
    assert found.images_per_s == pytest.approx(1000 / found.latency_ms)
    assert Measurement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_cache_keeps_apart_what_must_not_be_compared(tiny: FastViTConfig, folder: Path) -> None:
    first = measure(tiny, resolution=32)
    assert measure(tiny, resolution=32) == first
    again = measure(tiny, resolution=32, fresh=True)
    assert measure(tiny, resolution=32) == again != first
    count = len(list((folder / "latency").iterdir()))
    for change in ({"resolution": 64}, {"batch": 2}, {"precision": "int8"}, {"protocol": "paper"}):
        measure(tiny, **({"resolution": 32} | change))
        count += 1
        assert len(list((folder / "latency").iterdir())) == count
    for path in (folder / "latency").iterdir():
        path.write_text("{")  # damaged: measured again
    assert measure(tiny, resolution=32).latency_ms > 0


def test_a_budget_far_below_ends_early_and_is_not_believed_for_others(tiny: FastViTConfig) -> None:
    found = measure(tiny, resolution=32, budget_ms=1e-3, fresh=True)
    assert found.decides(1e-3)
    assert "early" in found.flags
    early = Measurement.from_dict(found.to_dict() | {"flags": ["early"]})
    entry = service.Entry({"place": 1}, "key", "protocol")
    entry.write(early)
    assert entry.read(1e-3) == early
    assert entry.read(None) is None
    assert entry.read(found.latency_ms) is None
    entry.write(replace(found, flags=(), ci_low_ms=0.981 * found.latency_ms, ci_high_ms=1.019 * found.latency_ms))
    assert entry.read(None) is not None
    assert entry.read(None, 0.02) is not None
    assert entry.read(None, 0.01) is None, "a narrower interval was asked for"


def test_several_networks_in_one_question(tiny: FastViTConfig) -> None:
    wide = tiny.replace(widths=(32, 64, 128, 256))
    found = measure_many([tiny, wide], resolution=32, names=["tiny", "wide"])
    assert [one.name for one in found] == ["tiny", "wide"]
    assert found[0].latency_ms < found[1].latency_ms


def test_the_published_protocols(tiny: FastViTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = measure(tiny, resolution=32, protocol="paper")
    assert len(paper.samples["trial_ms"]) == 100
    means, raw = measurer.protocols.modelbench(lambda: Calls(lambda: None, "cpu"))
    assert (len(means), len(raw)) == (20, 20 * 49)
    with pytest.raises(UsageError, match="warm"):
        measure(tiny, protocol="median")


def test_beside_a_busy_machine_it_says_so_and_is_not_kept(tiny: FastViTConfig,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurer, "BUSY", -1.0)
    first = measure(tiny, resolution=32)
    assert "busy" in first.flags
    monkeypatch.setattr(measurer, "BUSY", 2.0)
    second = measure(tiny, resolution=32)
    assert "busy" not in second.flags
    assert second.measured_at
    assert measure(tiny, resolution=32) == second


def test_trainers_that_do_not_pause_are_told_of(tiny: FastViTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "STEP_LIMIT_S", 0.1)
    with quiet.training():
        assert "busy" in measure(tiny, resolution=32).flags
    assert "busy" not in measure(tiny, resolution=32).flags


class TestProcess:
    """What happens to the one who asks when the measuring process fails."""

    @pytest.fixture
    def ask(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        def start(program: str, time_limit_s: float = 5.0, **request: object) -> list[dict]:
            script = tmp_path / "child.py"
            script.write_text("import json, os, sys, time\n" + program)
            monkeypatch.setattr(process, "COMMAND", ("-u", str(script)))
            one = process.MeasuringProcess()
            try:
                return one.ask({"device": "stand-in"} | request, time_limit_s)
            finally:
                one.close()
        return start

    def test_answer(self, ask) -> None:
        assert ask('sys.stdin.readline(); print(json.dumps({"stage": "measure"})); '
                   'print(json.dumps({"measurements": [{"latency_ms": 1}]})); time.sleep(60)') == [{"latency_ms": 1}]

    def test_crash(self, ask) -> None:
        with pytest.raises(Failure, match="signal 6"):
            ask("sys.stdin.readline(); os.abort()")
        with pytest.raises(Failure, match=r"exit code 3: out of luck"):
            ask('sys.stdin.readline(); print("out of luck", file=sys.stderr); sys.exit(3)')

    def test_hang(self, ask) -> None:
        with pytest.raises(Failure, match=r"did not answer within 0\.3 s while measuring"):
            ask('sys.stdin.readline(); print(json.dumps({"stage": "measure"})); time.sleep(60)', 0.3)

    def test_errors_keep_their_kind(self, ask) -> None:
        with pytest.raises(UsageError, match="no such thing"):
            ask('sys.stdin.readline(); print(json.dumps({"error": "no such thing", "kind": "usage"})); time.sleep(60)')

    def test_the_real_one_survives_a_bad_request_and_dies_with_its_owner(self, tiny: FastViTConfig) -> None:
        one = process.MeasuringProcess()
        request = {"targets": [tiny.to_dict()], "device": "onnxruntime", "setting": {"resolution": 32},
                   "protocol": "paper"}
        try:
            with pytest.raises(UsageError, match="precision fp8"):
                one.ask(request | {"setting": {"precision": "fp8"}}, 60)
            child = one._process
            answer, = one.ask(request, 60)
            assert answer["config_key"] == tiny.key()
            assert one._process is child
            os.close(child.stdin.fileno())
            assert child.wait(10) == 0
        finally:
            child.stdin = None
            one.close()
