"""measure(): cache, intervals, and a measuring process that dies or hangs."""

import json
import os
from pathlib import Path

import pytest

from fastvit import FastViTConfig
from nas.errors import Failure, UsageError
from nas.latency import Measurement, measure, measure_many, measurer, process, reference, service
from nas.latency.runtime import Calls

pytestmark = pytest.mark.usefixtures("quick")


def test_a_measurement_has_an_interval_and_its_samples(tiny: FastViTConfig) -> None:
    found = measure(tiny, resolution=32, name="tiny")
    assert found.ci_low_ms < found.latency_ms < found.ci_high_ms
    assert len(found.samples["trial_ms"]) == len(found.samples["reference_ms"]) >= 9
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
    measure(tiny, resolution=32)  # stores the reference
    found = measure(tiny, resolution=32, budget_ms=1e-3, fresh=True)
    assert found.decides(1e-3)
    assert len(found.samples["trial_ms"]) <= 12
    early = Measurement.from_dict(found.to_dict() | {"flags": ["early"]})
    entry = service.Entry({"place": 1}, "key", "protocol")
    entry.write(early)
    assert entry.read(1e-3) == early
    assert entry.read(None) is None
    assert entry.read(found.latency_ms) is None


def test_several_networks_share_one_session(tiny: FastViTConfig) -> None:
    wide = tiny.replace(widths=(32, 64, 128, 256))
    found = measure_many([tiny, wide], resolution=32, names=["tiny", "wide"])
    assert [one.name for one in found] == ["tiny", "wide"]
    assert found[0].samples["reference_ms"] == found[1].samples["reference_ms"]
    assert found[0].latency_ms < found[1].latency_ms


def test_the_published_protocols(tiny: FastViTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = measure(tiny, resolution=32, protocol="paper")
    assert len(paper.samples["trial_ms"]) == 100
    means, raw = measurer.protocols.modelbench(lambda: Calls(lambda: None, "cpu"))
    assert (len(means), len(raw)) == (20, 20 * 49)
    with pytest.raises(UsageError, match="interleaved"):
        measure(tiny, protocol="median")


def disturb(folder: Path, factor: float) -> dict[str, float]:
    """Stored references times `factor`; what they were."""
    before = {}
    for stored in (folder / "references").iterdir():
        values = json.loads(stored.read_text())
        before[values["reference"]] = values["latency_ms"]
        stored.write_text(json.dumps(values | {"latency_ms": factor * values["latency_ms"]}))
    return before


def test_drift_is_seen_repeated_and_flagged(tiny: FastViTConfig, folder: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    kept = measure(tiny, resolution=32)
    monkeypatch.setattr(measurer, "DRIFT", {"cpu": 4.0, "wall": 4.0})
    as_stored = {path: path.read_text() for path in (folder / "references").iterdir()}
    disturb(folder, 1 / 30)
    assert "drift" in measure(tiny, resolution=32, fresh=True).flags, "the machine is slower now: no better reference"
    disturb(folder, 30 * 30)
    assert "drift" in measure(tiny, resolution=32).flags, "in the middle of a run nothing is scaled anew"
    for path, text in as_stored.items():
        path.write_text(text)
    assert measure(tiny, resolution=32) == kept, "what is flagged is not kept"


def test_a_reference_stored_under_load_is_measured_anew(tiny: FastViTConfig, folder: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    true = measure(tiny, resolution=32)
    monkeypatch.setattr(measurer, "DRIFT", {"cpu": 4.0, "wall": 4.0})
    before = disturb(folder, 30)
    found = measure(tiny, resolution=32, fresh=True)
    assert "drift" not in found.flags
    assert found.latency_ms == pytest.approx(true.latency_ms, rel=3)
    assert measure(tiny, resolution=32) == found, "kept under the new reference"
    after = disturb(folder, 1)
    shares = [after[name] / before[name] for name in before]
    assert shares == pytest.approx([shares[0]] * len(shares)), "all references still agree"
    assert shares[0] < 10


def test_a_network_meets_the_reference_of_its_size() -> None:
    assert reference.nearest(0.1) == "w16"
    assert reference.nearest(4.2) == reference.ROOT
    assert reference.nearest(90) == "sa36"


class TestProcess:
    """What happens to the one who asks when the measuring process fails."""

    @pytest.fixture
    def ask(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        def start(program: str, time_limit_s: float = 5.0, **request: object) -> list[dict]:
            script = tmp_path / "child.py"
            script.write_text("import json, os, sys, time\n" + program)
            monkeypatch.setattr(process, "COMMAND", ("-u", str(script)))
            one = process.Bench()
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
        one = process.Bench()
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


def test_a_session_that_waits_for_cores_claims_less() -> None:
    quiet, busy = (measurer.protocols.Samples([[1.0]], [1.0], [waited]) for waited in (0.0, 0.9))
    assert quiet.widen("cpu") == pytest.approx(1.96 * 0.006)
    assert busy.widen("cpu") > 3 * quiet.widen("cpu")
    rounds = [1.0, 1.01] * 20
    for waited, decided in ((0.0, True), (0.9, False)):
        samples = measurer.protocols.Samples([rounds], [1.0] * 40, [waited] * 40)
        low = samples.ratio(0, "cpu")[1] * (1 - samples.widen("cpu"))
        assert (low > 0.97) is decided
