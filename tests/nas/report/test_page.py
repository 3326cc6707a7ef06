"""The decision in the documents: front --json, the printed front, front.csv and the report say the same."""

from __future__ import annotations

import csv
import html
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dashboard import demo
from nas.report.decision import decided_front
from nas.report.page import report_page
from nas.report.printed import front_csv, front_table
from nas.report.recommendation import Limits
from nas.report.table import table
from nas.runs.marks import Mark, write_mark
from nas.runs.run import Run
from search import main

HOSTILE = "<script>window.hit=1</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return demo.make(tmp_path_factory.mktemp("runs") / "demo", 40)


def test_terminal_json_and_report_recommend_the_same(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    said = found["recommendation"]
    assert said["trial"] in {point["trial"] for point in found["points"]}
    assert main(["front", str(run.path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # as wide as the terminal
    assert printed.startswith(f"Take {said['headline']} ")
    assert said["headline"] in html.unescape(report_page(run))
    assert [point["trial"] for point in found["points"] if point["tied"]] == [
        trial for trial in said["tied"] if trial in {p["trial"] for p in found["points"]}]


def test_every_point_stands_beside_the_preset_that_is_asked_for(run: Run) -> None:
    front = decided_front(run, against="s12")
    base = next(anchor for anchor in front["anchors"] if anchor["preset"] == "s12")
    for point in front["points"]:
        delta = point["delta"]
        assert delta["preset"] == "s12"
        assert delta["latency_ms"] == pytest.approx(point["latency_ms"] - base["latency_ms"])
        assert delta["score"] == pytest.approx(point["score"] - base["score"])
    rows = list(csv.DictReader(io.StringIO(front_csv(front))))
    assert [row["delta_preset"] for row in rows] == ["s12"] * len(front["points"])
    assert [float(row["delta_latency_ms"]) for row in rows] == pytest.approx(
        [point["delta"]["latency_ms"] for point in front["points"]])
    assert "S12 with" in front_table(front)


def test_limits_leave_out_points_and_never_the_anchors(run: Run) -> None:
    free, bound = decided_front(run), decided_front(run, limits=Limits(most_params_m=1.0))
    assert all(point["params_m"] <= 1.0 for point in bound["points"])
    assert len(bound["anchors"]) == len(free["anchors"])
    assert decided_front(run, limits=Limits(least_score=0.99))["recommendation"] is None


def test_a_star_and_a_note_are_exported(run: Run) -> None:
    trial = decided_front(run)["points"][0]["trial"]
    write_mark(run, trial, Mark(True, HOSTILE))
    front = decided_front(Run.open(run.path))
    assert (front["points"][0]["star"], front["points"][0]["note"]) == (True, HOSTILE)
    assert HOSTILE in front_csv(front)
    assert table(run).set_index("trial").loc[trial, ["star", "note"]].tolist() == [True, HOSTILE]
    page = report_page(Run.open(run.path))
    assert HOSTILE not in page
    assert "★" in page
    write_mark(run, trial, Mark())


class Outside(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href", "data") and value]


def test_the_report_is_one_file_with_all_that_decides(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                      ) -> None:
    target = tmp_path / "out.html"
    assert main(["report", str(run.path), "--to", str(target), "--against", "t12", "--min-score", "0.6"]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    page = target.read_text()
    reader = Outside()
    reader.feed(page)
    assert reader.found == []
    body = page[page.index("<main>"):]
    for words in ("with score at least 0.6", "against T12", "finalists with 3 seeds each", "error on those left out",
                  "python search.py export", "Demonstration", "@media print"):
        assert words in page if words.startswith("@") else words in body
    assert main(["report", str(run.path)]) == 0
    assert (run.path / "report.html").is_file()


@pytest.mark.parametrize(("words", "said"), [
    (["--against", "t99"], "expected largest, nearest or a preset"),
    (["--min-score", "-1"], "expected a number above 0"), (["--max-params-m", "nan"], "expected a number above 0"),
    (["--budget-ms", "0"], "expected a number above 0")])
@pytest.mark.parametrize("command", ["front", "report"])
def test_what_cannot_be_asked_is_refused_in_words(run: Run, command: str, words: list[str], said: str,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(run.path), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_run_without_trials_and_a_folder_as_target_are_refused(run: Run, tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    empty = demo.make(tmp_path / "empty", 0)
    empty.journal.unlink()
    assert main(["report", str(empty.path)]) == 2
    assert main(["report", str(run.path), "--to", str(tmp_path)]) == 2
    assert "name a file" in capsys.readouterr().err
