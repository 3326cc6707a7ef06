from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from dashboard import demo
from dashboard.load import Reader
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.report.documents import trial_frame
from nas.runs.run import Run
from nas.search.confirmed import search_trials
from space import SearchSpace


def test_reading_equals_the_run_s_own_reading(root: Path) -> None:
    frame = trial_frame(Run.open(root / "demo"))
    # The page's own column top1 is another thing.
    frame = frame.rename(columns={"top1": "trained_top1", "top1_low": "trained_low", "top1_high": "trained_high"})
    assert Reader(root / "demo").read().frame.drop(columns="run").equals(frame)


def test_only_what_was_appended_is_read(tmp_path: Path) -> None:
    run = demo.make(tmp_path / "run", 4)
    reader = Reader(run.path)
    first = reader.read()
    assert reader.read() is first
    demo.add(run.study, SearchSpace.load("default"), PRESETS["t8"].replace(depths=(1, 1, 1, 1)), 1.5,
             np.random.default_rng(9))
    second = reader.read()
    assert len(second.frame) == len(first.frame) + 1
    assert second.version != first.version
    with run.journal.open("ab") as journal:
        journal.write(b'{"op_code": 8, "half')
    assert len(reader.read().frame) == len(second.frame)
    assert run.repair()
    assert len(reader.read().frame) == len(second.frame)


def test_a_damaged_run_is_one_sentence(tmp_path: Path) -> None:
    run = demo.make(tmp_path / "run", 2)
    run.journal.write_text("nonsense\n" + run.journal.read_text())
    with pytest.raises(UsageError, match="is damaged"):
        Reader(run.path).read()
    (run.path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        Reader(run.path).read()


def test_a_run_of_an_earlier_version_stays_readable(tmp_path: Path) -> None:
    """data/schema2 was written once by dashboard.demo and is never made again."""
    data = Path(__file__).parent / "data" / "schema2"
    run = tmp_path / "demo"
    run.mkdir()
    (run / "run.json").write_bytes((data / "run.json").read_bytes())
    (run / "journal.log").write_bytes(gzip.decompress((data / "journal.log.gz").read_bytes()))
    snapshot = Reader(run).read()
    counts = snapshot.frame.outcome.value_counts().to_dict()
    assert counts == {"complete": 31, "over_budget": 5, "failed": 2, "stopped_early": 2}
    assert snapshot.frame.confirmed.sum() == 4
    front = snapshot.frame[snapshot.frame.trial.isin([27, 22, 25])]
    assert front.confirmed.all()
    assert front.score.round(3).tolist() == [0.661, 0.671, 0.636]


def test_samples_and_curves_are_read_when_they_are_looked_at(root: Path) -> None:
    snapshot = Reader(root / "demo").read()
    for own in search_trials(Run.open(root / "demo")):
        record = snapshot.whole(snapshot.records[own.trial])
        assert record.curve == own.curve
        assert record.latency == own.latency
    lean = [r for r in snapshot.records if r.curve]
    assert not lean


def test_text_that_looks_like_samples_stays(tmp_path: Path) -> None:
    run = demo.make(tmp_path / "run", 2, finalists=0)
    text = 'odd "samples":{"a":1} and "curve":[1,2] ' + 1000 * "."
    trial = run.study.ask()
    trial.set_user_attr("record", {"outcome": "failed", "reason": text})
    run.study.tell(trial, state=TrialState.FAIL)
    assert Reader(run.path).read().records[-1].reason == text


def test_once_networks_are_trained_the_pages_show_their_top_1_alone(root: Path) -> None:
    from dataclasses import replace

    from nas.runs.trained import Trained
    from nas.search.front import front_of

    run = Reader(root / "demo").read()
    assert run.unit == "proxy score"
    assert run.shown is run.frame
    numbers = [r.trial for r in front_of(run.records, 1.5)][:2]
    found = {number: Trained(trial=number, hits=70 + number, images=200, held_out="validation", trained_images=1000,
                             resolution=64, pixels=64, started_from="random", cpu_s=1.0, recipe={})
             for number in numbers}
    records = [replace(r, trained=found.get(r.trial)) for r in run.records]
    frame = run.frame.assign(trained_top1=[r.trained and r.trained.top1 for r in records],
                             trained_low=[r.trained and r.trained.interval()[0] for r in records],
                             trained_high=[r.trained and r.trained.interval()[1] for r in records])
    other = replace(run, records=records, frame=frame)
    assert other.unit == "top-1 on held-out images"
    kept = other.shown.score.notna()
    assert set(other.shown.trial[kept]) == set(numbers)
    from dashboard.figures.front import front_rows
    from dashboard.state import View

    assert front_rows(other.shown, View(), 1.5).trial.tolist() == [r.trial for r in front_of(records, 1.5)]
