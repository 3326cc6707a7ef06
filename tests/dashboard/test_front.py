"""The front's chart and words, without a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard import demo
from dashboard.figures import front, growth
from dashboard.figures.thin import MANY, thinned
from dashboard.load import Reader
from dashboard.state import Ref, View
from nas.report.documents import front_document
from nas.runs.run import Run

VIEW, BUDGET = View(runs=("demo",)), 1.5


@pytest.fixture(scope="module")
def frame(root: Path) -> pd.DataFrame:
    return Reader(root / "demo").read().frame


def trace(figure, name: str):
    return next(t for t in figure.data if t.name == name)


@pytest.mark.parametrize("budget", [BUDGET, 1.2, 0.9])
@pytest.mark.parametrize("name", ["demo", "single"])
def test_the_front_is_the_run_s_own(root: Path, budget: float, name: str) -> None:
    """What `search.py front` prints, of a run whose finalists are confirmed and of one where none is."""
    path = root / name if name == "demo" else demo.make(root.parent / f"single-{budget}", 20, finalists=0).path
    frame = Reader(path).read().frame
    points = front_document(Run.open(path), budget)["points"]
    assert front.front_rows(frame, VIEW, budget).trial.tolist() == [p["trial"] for p in points]
    assert front.in_words(frame, VIEW, budget).startswith(f"{len(points)} " if points else "No complete trial")
    figure = front.front_figure({name: frame}, VIEW, budget)
    for label, confirmed, symbol in (("front", False, "circle-open"), ("front, confirmed", True, "circle")):
        kept = [p for p in points if p["confirmed"] == confirmed]
        assert bool(kept) == any(t.name == label for t in figure.data)
        if kept:
            drawn = trace(figure, label)
            assert drawn.marker.symbol == symbol
            assert list(drawn.customdata) == [f"{path.name}:{p['trial']}" for p in kept]
            assert list(drawn.y) == pytest.approx([p["score"] for p in kept])
            assert list(drawn.error_x.array) == pytest.approx([p["ci_high_ms"] - p["latency_ms"] for p in kept])


def test_a_smaller_budget_keeps_what_is_under_it_beyond_doubt(frame: pd.DataFrame) -> None:
    rows = front.front_rows(frame, VIEW, 1.2)
    assert 0 < len(rows) < len(front.front_rows(frame, VIEW, BUDGET))
    assert (rows.ci_high_ms <= 1.2).all()
    assert front.in_words(frame, VIEW, 0.01) == "No complete trial is under 0.01 ms."


def test_presets_are_labelled_and_others_come_on_demand(frame: pd.DataFrame) -> None:
    figure = front.front_figure({"demo": frame}, VIEW, BUDGET)
    assert list(trace(figure, "presets, measured here").text) == ["T8", "T12", "S12", "SA12", "SA24", "SA36", "MA36"]
    names = {t.name for t in figure.data}
    shown = front.front_figure({"demo": frame}, VIEW.replace(show=("over_budget", "failed", "stopped_early")), BUDGET)
    assert {"over the budget", "failed"} <= {t.name for t in shown.data} - names


def test_predicted_latencies_are_never_drawn_as_measured(frame: pd.DataFrame) -> None:
    predicted = set(front.refs(frame[frame.origin == "predicted"]))
    assert predicted
    shown = front.front_figure({"demo": frame}, VIEW.replace(show=("over_budget",)), BUDGET)
    assert not predicted & {ref for t in shown.data if t.customdata is not None for ref in t.customdata}


def test_the_choice_is_a_ring(frame: pd.DataFrame) -> None:
    figure = front.front_figure({"demo": frame}, VIEW, BUDGET)
    others = len(figure.data)
    for pick, row in ((Ref("", "t8"), frame.preset == "t8"), (Ref("demo", "3"), frame.trial == 3)):
        ring = trace(front.with_ring(figure, {"demo": frame}, VIEW.replace(pick=pick)), "chosen")
        assert ring.x[0] == frame[row].latency_ms.item()
        assert len(figure.data) == others + 1
    predicted = front.refs(frame[frame.origin == "predicted"])[0]
    for pick in (None, Ref("gone", "1"), Ref.parse(predicted)):
        assert len(front.with_ring(figure, {"demo": frame}, VIEW.replace(pick=pick)).data) == others


def test_text_of_a_run_stays_text(frame: pd.DataFrame) -> None:
    bad = frame.assign(reason="<a href='javascript:alert(1)'>x</a><b>", words="<script>")
    assert all("<a" not in text and "<script" not in text for text in front.hover(bad))


def many(frame: pd.DataFrame) -> pd.DataFrame:
    """Thousands of trials spread around those of `frame`."""
    rng = np.random.default_rng(0)
    found = pd.concat([frame] * 120, ignore_index=True)
    return found.assign(latency_ms=found.latency_ms * rng.uniform(0.9, 1.1, len(found)), preset=None,
                        score=found.score * rng.uniform(0.9, 1.1, len(found)), trial=range(len(found)))


def test_of_many_points_one_is_drawn_for_those_over_one_another(frame: pd.DataFrame) -> None:
    rows = many(frame)
    scored = front.candidates(rows)
    figure = front.front_figure({"demo": rows}, VIEW, BUDGET)
    drawn = trace(figure, "trials")
    assert 0.5 * MANY < len(drawn.x) <= MANY < len(scored)
    on_front = front.front_rows(rows, VIEW, BUDGET)
    assert sum(len(t.x) for t in figure.data if t.name in ("front", "front, confirmed")) == len(on_front)
    x, y = np.array(drawn.x, float), np.array(drawn.y, float)
    for one in scored.sample(40, random_state=0).itertuples():  # nothing is far from what stands for it
        assert np.min(np.hypot(np.log(x / one.latency_ms), 2 * (y - one.score))) < 0.05
    by_trial = scored.set_index("trial")
    for ref, ms, score in zip(drawn.customdata, drawn.x, drawn.y, strict=True):  # and each is itself
        assert (ms, score) == tuple(by_trial.loc[int(ref.rpartition(":")[2]), ["latency_ms", "score"]])


def test_a_zoom_parts_the_points(frame: pd.DataFrame) -> None:
    rows = front.candidates(many(frame))
    window = (1.0, 1.1, 0.62, 0.66)
    inside = rows[rows.latency_ms.between(*window[:2]) & rows.score.between(*window[2:])]
    figure = front.front_figure({"demo": rows}, VIEW.replace(window=window), BUDGET)
    shown = [ref.rpartition(":")[2] for ref in trace(figure, "trials").customdata]
    assert set(map(int, shown)) <= set(inside.trial)
    assert len(shown) > 0.8 * len(inside)


def test_few_points_are_all_drawn() -> None:
    x, y = np.random.default_rng(0).random((2, 2 * MANY))
    assert len(thinned(x[:MANY], y[:MANY])) == MANY
    kept = thinned(x, y)
    assert 0.5 * MANY < len(kept) <= MANY
    assert (np.diff(kept) > 0).all()
    y[:5] = np.nan
    assert not set(range(5)) & set(thinned(x, y)) | set(range(5)) & set(thinned(x[:50], y[:50]))
    assert 2 * MANY - 1 in thinned(np.append(x[:-1], x[9]), np.append(y[:-1], y[9]))  # of two alike the latest


def test_further_budgets_are_thin_lines(frame: pd.DataFrame) -> None:
    figure = front.front_figure({"demo": frame}, VIEW, BUDGET, [0.8, 1.1, BUDGET])
    lines = {shape.x0: shape.line.width for shape in figure.layout.shapes if shape.type == "line"}
    assert set(lines) == {0.8, 1.1, BUDGET}
    assert lines[0.8] == lines[1.1] < lines[BUDGET]
    assert [note.text for note in figure.layout.annotations] == ["budget 1.5 ms", "0.8 ms", "1.1 ms"]


def test_two_runs_share_a_chart(root: Path, frame: pd.DataFrame) -> None:
    other = Reader(root / "other").read().frame
    figure = front.front_figure({"demo": frame, "other": other}, VIEW, BUDGET)
    assert {"front of demo, confirmed", "front of other, confirmed"} <= {t.name for t in figure.data}


def test_hypervolume_only_grows_and_ends_at_the_run_s(frame: pd.DataFrame, root: Path) -> None:
    grown = growth.growth(frame, BUDGET)
    assert grown.hypervolume.is_monotonic_increasing
    assert grown.hypervolume.iloc[-1] == pytest.approx(front_document(Run.open(root / "demo"), BUDGET)["hypervolume"])
    drawn = growth.growth_figure({"demo": grown}, over="minutes").data[0]
    assert drawn.y[-1] == grown.hypervolume.iloc[-1]
    assert set(drawn.y) == set(grown.hypervolume[grown.hypervolume > 0])


def test_an_empty_run_has_a_chart_too(frame: pd.DataFrame) -> None:
    front.front_figure({"demo": frame.iloc[:0]}, VIEW, BUDGET)
    assert len(growth.growth(frame.iloc[:0], BUDGET)) == 0


def test_confirmed_points_are_told_from_single_runs(frame: pd.DataFrame) -> None:
    rows = front.front_rows(frame, VIEW, BUDGET)
    half = frame.assign(confirmed=frame.trial.isin(rows.trial[::2]))
    figure = front.front_figure({"demo": half}, VIEW, BUDGET)
    assert trace(figure, "front, confirmed").marker.symbol == "circle"
    assert trace(figure, "front").marker.symbol == "circle-open"
    assert len(trace(figure, "front").x) + len(trace(figure, "front, confirmed").x) == len(rows)


def test_estimates_stand_on_axes_of_their_own(frame: pd.DataFrame) -> None:
    from dashboard.estimates import with_estimate

    rows = with_estimate(with_estimate(frame, "phone_ms"), "top1")
    t8 = rows[rows.preset == "t8"].iloc[0]
    assert t8.phone_ms_low < t8.phone_ms < t8.phone_ms_high
    assert t8.phone_ms == pytest.approx(0.815, rel=0.1)  # as published
    assert t8.top1 == pytest.approx(76.2, abs=1.5)
    assert rows[rows.anchor.notna()].phone_ms.isna().all()
    both = VIEW.replace(x="phone_ms", y="top1", show=("published",))
    figure = front.front_figure({"demo": rows}, both, BUDGET)
    assert "predicted" in figure.layout.xaxis.title.text
    assert "estimated" in figure.layout.yaxis.title.text
    assert len(trace(figure, "FastViT, as published").x) == 7
    assert len(trace(figure, "peers, as published").x) > 10
    for other in (VIEW, both.replace(y="score"), both.replace(x="latency_ms")):
        drawn = front.front_figure({"demo": rows}, other.replace(show=("published",)), BUDGET)
        assert not [t for t in drawn.data if t.name and "as published" in t.name]
    assert front.around_front(front.front_rows(rows, both, BUDGET), both, BUDGET) is not None


def test_an_anchor_without_a_score_has_its_place(frame: pd.DataFrame) -> None:
    drawn = trace(front.front_figure({"demo": frame}, VIEW, BUDGET), "anchors without a score")
    assert list(drawn.text) == ["repvit_m0_9"]
    assert drawn.x[0] == frame[frame.anchor.notna()].latency_ms.item()
    assert "repvit_m0_9" in front.hover(frame[frame.anchor.notna()])[0]


def test_failed_trials_stand_on_the_axes_that_know_them(frame: pd.DataFrame) -> None:
    failed = (frame.outcome == "failed").sum()
    shown = VIEW.replace(show=("failed",), x="gmacs")
    assert len(trace(front.front_figure({"demo": frame}, shown, BUDGET), "failed").x) == failed


def test_published_figures_stay_on_their_device() -> None:
    from dashboard.figures import published

    frame = published.published()
    where = published.places()[0]
    assert set(frame[frame["where"] == where].preset.dropna()) == {"t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36"}
    for place in published.places():
        for distilled in (False, True):
            rows = published.selection(place, distilled=distilled)
            assert set(rows["where"]) <= {place}
            if len(rows):
                drawn = [t for t in published.published_figure(rows, "t8").data if t.mode != "lines"]
                assert sum(len(t.x) for t in drawn) >= len(rows)
    rows = published.selection(where, distilled=False)
    assert "another device and task" in published.published_words(rows, where)
    assert trace(published.published_figure(rows, "t8"), "nearest to the chosen one").x[0] == pytest.approx(0.815)


def test_a_run_of_predictions_says_that_nothing_was_measured(frame: pd.DataFrame) -> None:
    predicted = frame.assign(origin="predicted")
    assert front.in_words(predicted, VIEW, BUDGET).startswith("Nothing was measured")
    assert len(front.front_rows(predicted, VIEW, BUDGET)) == 0
    front.front_figure({"demo": predicted}, VIEW, BUDGET)


@pytest.mark.parametrize("always", [[0.47], [1.5, 0.1], [3.0, 1e-3, 40.0]])
def test_the_budget_s_slider_is_logarithmic_and_legible(frame: pd.DataFrame, always: list[float]) -> None:
    from dashboard.views.front import SLIDER_STEP, budgets

    found = budgets(frame, always)
    assert set(always) <= set(found)
    assert all(len(f"{value:g}".replace(".", "").lstrip("0")) <= 3 for value in found)
    ratios = np.divide(found[1:], found[:-1])
    assert (ratios > 1).all()
    assert ratios.max() < SLIDER_STEP + 0.02
