"""Peers: every figure has its source and its resolution, and the verdict says what the numbers say."""

from __future__ import annotations

import json
import re

import pytest

from fastvit.config import FastViTConfig
from fastvit.published import PEERS, published
from nas.errors import Failure, NotAvailable
from nas.latency import Measurement
from nas.report.peers import Figure, Peer, best, measured, peers, verdict
from search import main


def measurement(ms: float, half: float = 0.02) -> Measurement:
    return Measurement("", "k", "onnxruntime", "measured", 224, ms, ms * (1 - half), ms * (1 + half), runtime="ort 1")


def network(name: str, ms: float | None, plain: float | None, distilled: float | None = None) -> Peer:
    def figure(value: float | None) -> Figure | None:
        return None if value is None else Figure(value, "paper", "")

    return Peer(name, "timm:x", 224, 1.0, 1.0, figure(plain), figure(distilled), name.startswith("FastViT"),
                None if ms is None else measurement(ms), "" if ms else "not measured: the time was up")


def test_every_peer_has_figures_with_sources_and_timm_knows_it() -> None:
    import timm

    found = peers()
    assert len(found) == 7 + len(PEERS) >= 32
    for peer in found:
        figures = [figure for figure in (peer.plain, peer.distilled) if figure]
        assert figures, peer.name
        assert all(60 < figure.top1 < 90 and figure.source for figure in figures)
        if isinstance(peer.target, str):
            assert timm.is_model(peer.target.removeprefix("timm:"))
            assert not peer.is_fastvit
        else:
            assert isinstance(peer.target, FastViTConfig)
    by_name = {peer.name: peer for peer in found}
    t8 = by_name["FastViT-T8"]
    assert t8.plain is not None
    assert t8.distilled is not None
    assert (t8.resolution, t8.plain.top1, t8.distilled.top1) == (256, 76.2, 77.2)
    assert by_name["LeViT-256"].plain is None


def test_figures_of_torchvision_are_torchvisions() -> None:
    models = pytest.importorskip("torchvision.models")
    checked = 0
    for row in published():
        if match := re.match(r"torchvision (\w+\.\w+)", row.source):
            weights = models.get_weight(match.group(1))
            assert weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] == row.top1
            assert weights.transforms.keywords["crop_size"] == row.resolution
            checked += 1
    assert checked == 2


def test_the_nearest_to_the_budget_come_first_and_time_ends_it() -> None:
    networks = [Peer(f"n{gmacs}", "timm:x", 224, None, gmacs, Figure(70, "s", ""), None, False)
                for gmacs in (1.0, 50.0, 9.0, None)]
    now, order = [0.0], []

    def measure(peer: Peer) -> Measurement:
        order.append(peer.name)
        now[0] += 10
        return measurement((peer.gmacs or 3.0) * 2)

    found = measured(networks, 20.0, measure, 25, lambda line: None, clock=lambda: now[0])
    assert [peer.name for peer in found] == ["n1.0", "n50.0", "n9.0", "nNone"]
    assert order == ["n1.0", "nNone", "n9.0"]  # the first tells the rate; unknown sizes count as near
    assert found[1].why == "not measured: the time was up"


def test_a_failure_costs_one_network_and_a_missing_device_all() -> None:
    def fails(peer: Peer) -> Measurement:
        if peer.name == "bad":
            raise Failure("cannot be converted\nmore")
        return measurement(2.0)

    lines: list[str] = []
    found = measured([network("bad", None, 70.0), network("good", None, 70.0)], 5, fails, 60, lines.append)
    assert [peer.why for peer in found] == ["cannot be converted", ""]
    assert lines[0] == "bad: cannot be converted"

    def missing(peer: Peer) -> Measurement:
        raise NotAvailable("no such device")

    with pytest.raises(NotAvailable):
        measured([network("good", None, 70.0)], 5, missing, 60, lines.append)


def test_the_verdict_is_honest() -> None:
    networks = [network("FastViT-T8", 9.0, 76.2, 77.2), network("FastViT-T12", 15.0, 79.3, 80.3),
                network("MobileNetV4-Conv-M", 8.0, 79.9), network("RepViT-M0.9", 7.0, None, 78.7),
                network("Slow", 30.0, 84.0, 85.0)]
    plain, taught = verdict(networks, 9.5)
    assert ("MobileNetV4-Conv-M (8.00 ms here, 79.9 published) against FastViT-T8 (9.00 ms here, 76.2 published)"
            in plain)
    assert "FastViT is behind by 3.7 points" in plain
    assert "Faster than FastViT-T8 beyond doubt and published no worse: MobileNetV4-Conv-M" in plain
    assert "RepViT-M0.9" in taught
    assert "behind by 1.5 points" in taught
    ahead, _ = verdict([network("FastViT-T8", 5.0, 76.2), network("Other", 5.0, 75.0)], 9)
    assert "FastViT is ahead by 1.2 points" in ahead
    level, _ = verdict([network("FastViT-T8", 5.0, 76.2), network("Other", 5.0, 76.2)], 9)
    assert "level" in level
    none, _ = verdict(networks, 8.5)
    assert "no FastViT preset is that fast (the fastest is FastViT-T8 (9.00 ms here, 76.2 published); it is" in none
    assert "it is close" in none
    nothing, _ = verdict(networks, 1.0)
    assert "no network measured is under 1 ms beyond doubt" in nothing
    alone, _ = verdict([network("FastViT-T8", 5.0, 76.2)], 9)
    assert "none of the others" in alone


def test_an_interval_across_the_budget_does_not_meet_it() -> None:
    assert best([network("Other", 9.9, 80.0)], 10.0, distilled=False, fastvit=False) is None
    assert best([network("Other", 9.7, 80.0)], 10.0, distilled=False, fastvit=False) is not None


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import nas.latency

    def fake(target: object, device: str, *, resolution: int, name: str, **_: object) -> Measurement:
        if name == "CAFormer-S18":
            raise Failure("cannot be exported")
        return measurement(8.0 if name == "FastViT-T8" else 4.0 + len(name))

    monkeypatch.setattr(nas.latency, "measure", fake)
    assert main(["peers", "--budget-ms", "16"]) == 0
    out, err = capsys.readouterr()
    assert "published by the source named, not trained here" in out
    assert out.index("--- 16 ms") < out.index("MobileNetV3-Large 1.0x")
    assert "CAFormer-S18" in out
    assert "cannot be exported" in out
    assert "Trained without a teacher, under 16 ms" in out
    assert "of 32: " in err
    assert main(["peers", "--budget-ms", "16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["networks"]) == 32
    assert len(document["verdict"]) == 2
    row = next(one for one in document["networks"] if one["name"] == "FastViT-T8")
    assert row["measured"]["origin"] == "measured"
    assert row["published"]["source"].startswith("apple/ml-fastvit")
    for words in (["--budget-ms", "0"], ["--budget-ms", "nan"], ["--budget-ms", "3", "--minutes", "-1"],
                  ["--budget-ms", "3", "--device", "iphone12pro"]):
        assert main(["peers", *words]) == 2
