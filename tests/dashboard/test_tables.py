"""Tables of trials, comparisons, importance and exports, without a browser."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard import exporting
from dashboard.compare import Column, choices, figures, verdict
from dashboard.figures import space as charts
from dashboard.figures.compare import compared_figure
from dashboard.importance import Share, importance, places
from dashboard.load import Reader, Snapshot
from dashboard.tables import filtered, reasons, to_csv, to_parquet
from fastvit.presets import PRESETS
from space import SearchSpace

SPACE = SearchSpace.load("default")


@pytest.fixture(scope="module")
def run(root: Path) -> Snapshot:
    return Reader(root / "demo").read()


def test_words_states_and_numbers_find_trials(run: Snapshot) -> None:
    frame = run.frame
    assert set(filtered(frame, ("failed",), "").outcome) == {"failed"}
    assert filtered(frame, (), "sa12").trial.tolist() == [3]
    assert 12 in filtered(frame, (), "12").trial.tolist()
    assert len(filtered(frame, (), "no such words")) == 0
    assert len(filtered(frame, (), "")) == len(frame)


def test_alike_reasons_are_counted_together(run: Snapshot) -> None:
    found = reasons(run.frame).set_index("reason")
    assert found.trials["measured at … ms"] == (run.frame.reason.fillna("").str.startswith("measured at")).sum()
    assert len(reasons(run.frame[run.frame.outcome == "complete"])) == 0


def test_tables_leave_as_they_are(run: Snapshot) -> None:
    again = pd.read_parquet(io.BytesIO(to_parquet(run.frame)))
    pd.testing.assert_frame_equal(again, run.frame, check_dtype=False)
    text = pd.read_csv(io.BytesIO(to_csv(run.frame)))
    assert text.trial.tolist() == run.frame.trial.tolist()
    assert text.score.dropna().tolist() == pytest.approx(run.frame.score.dropna().tolist())


def test_no_cell_of_a_csv_is_a_formula(run: Snapshot) -> None:
    bad = run.frame.head(2).assign(reason=["=cmd()", "@x"], words=["+1", "fine"])
    text = pd.read_csv(io.BytesIO(to_csv(bad)))
    assert text.reason.tolist() == ["'=cmd()", "'@x"]
    assert text.words.tolist() == ["'+1", "fine"]


def columns(run: Snapshot, *trials: int) -> list[Column]:
    records = [next(r for r in run.records if r.trial == trial) for trial in trials]
    return [Column(f"trial {r.trial}", r.architecture, r) for r in records]


def test_what_differs_comes_first(run: Snapshot) -> None:
    both = [Column("SA12", PRESETS["sa12"]), Column("S12", PRESETS["s12"])]
    rows = choices(both)
    assert [row.label for row in rows if row.differs] == [
        "stage 4: mixer", "stage 4: mixer kernel", "stage 4: positional encoding"]
    assert [row.differs for row in rows] == sorted((row.differs for row in rows), reverse=True)
    assert figures(both, 64, 16, "proxy score")[0].values == ("not in this run", "not in this run")
    assert "not both measured" in verdict(*both)


def test_a_verdict_says_whether_a_difference_is_beyond_doubt(run: Snapshot) -> None:
    t8, sa24 = columns(run, 0, 4)
    words = verdict(sa24, t8)
    assert "slower" in words
    assert "intervals are apart" in words
    assert "intervals overlap" in verdict(t8, t8)
    assert len(compared_figure([t8, sa24], 1.5, "proxy score").data) == 2


def test_what_decides_the_score_is_found(run: Snapshot) -> None:
    found = importance(run.records, SPACE, "latency")
    assert found is not None
    assert found.r2 > 0.3
    top = {found.names[i] for i in charts.ranked(found)[:6]}
    assert top & {"depth3", "depth4", "depth2", "depth1"}
    depth = found.names.index("depth3")
    assert found.towards[depth] < 0
    assert found.ways[depth] == "less is better"
    assert "What matters most" in charts.importance_words(found) or "too little" in charts.importance_words(found)
    assert len(charts.importance_figure(found).data) >= 1
    assert importance(run.records[:10], SPACE, "score") is None


def test_every_choice_has_a_chart(run: Snapshot) -> None:
    assert list(places(SPACE)) == list(SPACE.feature_names)
    for name, (field, index) in places(SPACE).items():
        figure = charts.choice_figure(run.records, "demo", field, index, name, SPACE.choices[field][index], 1.5)
        drawn = sum(len(trace.x) for trace in figure.data)
        assert drawn == run.frame[run.frame.outcome == "complete"].score.notna().sum()
        assert "Green lines" in charts.choice_words(run.records, field, index, name, 1.5)


def test_the_share_under_the_budget() -> None:
    share = Share(np.array([0.5, 1.0, 1.5, 2.0]), 1.2)
    assert share.share == 0.5
    assert share.error == pytest.approx(0.25)
    drawn = charts.share_figure(share)
    reach = np.log10(2.0 / 0.5)
    area = sum(y * np.log10((x + w / 2) / (x - w / 2)) for t in drawn.data for x, y, w in zip(
        t.x, t.y, t.width, strict=True)) / reach * 40
    assert area == pytest.approx(100, rel=0.01)
    assert "50 ± 25 %" in charts.share_words(share, 10)


def test_an_export_asks_for_what_was_chosen(tmp_path: Path) -> None:
    words = exporting.words(tmp_path, 7, None, "fastvit_x", tmp_path / "exports", ["timm", "onnx"], 64)
    assert words == ["export", str(tmp_path), "--trial", "7", "--name", "fastvit_x", "--to",
                     str(tmp_path / "exports"), "--formats", "timm,onnx"]
    for name in ("../x", "X", "a", "a b", "-rf", ""):
        with pytest.raises(ValueError, match="expected 3 to 41"):
            exporting.words(tmp_path, 7, None, name, tmp_path, ["timm"], 64)
    with pytest.raises(ValueError, match="is no preset"):
        exporting.words(tmp_path, None, "--help", "fastvit_x", tmp_path, ["timm"], 64)


def test_an_export_folder_does_not_follow_a_link_out(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "demo"
    run.mkdir(parents=True)
    (run / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not below"):
        exporting.target(run, "out")
    assert exporting.target(run, "exports") == run / "exports"
    (tmp_path / exporting.SHEET).touch()
    assert exporting.made(run) == []


def test_a_failed_export_says_why(root: Path, tmp_path: Path) -> None:
    job = exporting.Job.start(["export", str(root / "demo"), "--trial", "99999", "--name", "fastvit_x", "--to",
                               str(tmp_path)], tmp_path / "fastvit_x", ["timm"], root)
    for _ in range(300):
        if not job.running:
            break
        time.sleep(0.1)
    assert not job.running
    assert not job.ok
    assert "99999" in " ".join(job.lines)


def test_the_lines_that_load_an_export() -> None:
    card = ("# x\n\n## Loading\n\ntimm:\n\n```python\nimport timm\nm = timm.create_model(\"local-dir:"
            "PATH_OF_THIS_FOLDER\")\n```\n\nONNX Runtime:\n\n```python\nimport onnxruntime\n```\n\n## Parity\n"
            "```python\nno\n```")
    found = exporting.loading(card, Path("/runs/a"))
    assert [title for title, _ in found] == ["timm", "ONNX Runtime"]
    assert 'timm.create_model("local-dir:/runs/a")' in found[0][1]
    assert exporting.loading("", Path("x")) == []


