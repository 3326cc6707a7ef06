"""`--anchor timm:NAME`: a model of timm beside the front, measured alike and without a score."""

from pathlib import Path

import pytest

import search
from fastvit import FastViTConfig
from nas.errors import UsageError
from nas.latency import Measurement
from nas.latency.network import Network
from nas.report.documents import front_document
from nas.report.printed import front_table
from nas.runs.measurement import Origin
from nas.runs.run import Run
from nas.workers.launcher import start
from nas.workers.worker import Worker


class Stub:
    """Measures at once; whoever asks for a score of an anchor is wrong."""

    def measure(self, target: FastViTConfig | str) -> Measurement:
        network = Network.of(target)
        return Measurement(network.name, network.key, "onnxruntime", Origin.MEASURED, 32, 2.0, 1.9, 2.1)


def begin(path: Path, *words: str) -> Run:
    args = search.build_parser().parse_args(["run", "--budget-ms", "3", "--data", "digits", "--resolution", "32",
                                             "--steps", "4", "--run", str(path), *words])
    args.budgets = [args.budget_ms]
    return start(args)


def test_an_anchor_is_measured_and_shown_without_a_score(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", "--anchor", "timm:mobilenetv3_small_100", "--anchor", "timm:mobilenetv3_small_100")
    worker = Worker(run, "w0", Stub())
    trials = []
    while (trial := worker.chooser.next_waiting()) is not None:
        trials.append(trial.user_attrs)
        if "timm" in trial.user_attrs:
            worker.run_trial(trial)
    assert sum("timm" in attrs for attrs in trials) == 1
    front = front_document(Run.open(run.path))
    anchor, = (one for one in front["anchors"] if one["preset"] == "timm:mobilenetv3_small_100")
    assert (anchor["score"], anchor["config"], anchor["latency_ms"]) == (None, None, 2.0)
    assert anchor["params_m"] == pytest.approx(2.54, abs=0.01)
    assert 0.001 < anchor["gmacs"] < 0.056  # as its authors count it at 224 px
    assert not front["points"]
    text = " ".join(front_table(front).split())  # however wide the terminal is
    assert "2.000 [1.900, 2.100]" in text
    assert "timm:mobilenetv3_small_100" in text
    assert "published" not in text


@pytest.mark.parametrize(("name", "expected"), [("t8", "anchors already"), ("timm:levit_25", "levit_256")])
def test_an_anchor_that_cannot_be_is_refused_before_a_run_is_made(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        begin(tmp_path / "run", "--anchor", name)
    assert not (tmp_path / "run").exists()
