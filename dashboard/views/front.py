"""Front: the configurations that none beats, under a budget that can be moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.estimates import with_estimate
from dashboard.figures import front as figures
from dashboard.figures import growth, published
from dashboard.figures.thin import MANY
from dashboard.load import Snapshot
from dashboard.state import EXTRAS, MOST_MS, OVER, X_AXES, Y_AXES, Ref, View
from dashboard.views import live, parts, recommended
from fastvit.difference import nearest_preset
from nas.report.recommendation import Recommendation

if TYPE_CHECKING:
    import plotly.graph_objects as go

SLIDER_STEP = 1.03


def show() -> None:
    # What comes and goes has a place of its own: a chart that moves down a place is drawn anew and loses its zoom.
    with st.container():
        runs = session.chosen()
        live.show(runs)
    first, view = runs[0], session.view()
    budget = session.budget(first)
    with st.spinner("Working out what no run measures"):
        frames = {run.name: with_estimate(with_estimate(_within(run), view.x), view.y) for run in runs}
    rows = figures.front_rows(frames[first.name], view, budget)
    words = figures.in_words(frames[first.name], view, budget, first.unit)
    found = session.recommended(first)
    recommended.headline(found, words)
    _controls(first, view, budget)
    figure = figures.front_figure(frames, view, budget, first.budgets)
    if view.y == "score":
        figure.update_layout(yaxis_title=first.unit)
    if found is not None:
        figures.with_recommendation(figure, frames[first.name], view, found.pick.trial, [r.trial for r in found.tied])
    alt = f"{found.headline()}. {words}" if found else words
    _decide(runs, frames, rows, figure, alt, _around(view))
    parts.state_of(runs)
    recommended.details(first, found, budget)
    _table(rows, first, budget, found)
    _growth(runs, budget)
    _published(view, runs)


def _within(run: Snapshot) -> pd.DataFrame:
    """The run's trials, those marked that meet the limits."""
    asked = session.limits()
    if not asked:
        return run.shown
    resolution, classes = run.meta.resolution, run.meta.num_classes
    return run.shown.assign(meets=[asked.meets(record, resolution, classes) for record in run.records])


def _around(view: View) -> View:
    """What a click changes nothing of: what was published rings the choice, but is closed at first."""
    return view.replace(pick=view.pick if st.session_state.get("published") else None, compare=())


@st.fragment
def _decide(runs: list[Snapshot], frames: dict[str, pd.DataFrame], rows: pd.DataFrame, figure: go.Figure, words: str,
            around: View) -> None:
    """Chart and choice: a click draws these anew and leaves the rest of the page."""
    view = session.view()
    if _around(view) != around:
        st.rerun()
    budget = session.budget(runs[0])
    left, right = st.columns([7, 3])
    with left:
        st.plotly_chart(figures.with_ring(figure, frames, view), key="front_chart", on_select=_clicked,
                        selection_mode=("points", "box"), alt=words,
                        config={"displaylogo": False, "modeBarButtonsToRemove": ["autoScale2d", "resetScale2d"]})
        _zoom(rows, view, budget)
        _left_out(frames[runs[0].name], view)
    with right:
        _choice(runs, rows, view, budget, session.recommended(runs[0]))
    session.settle()


def _clicked() -> None:
    """Keep what was clicked, or the box that was drawn, as our own state: with the next figure plotly's is gone."""
    found = (st.session_state.get("front_chart") or {}).get("selection", {})
    for box in found.get("box", []):
        (x0, x1), (y0, y1) = sorted(map(float, box["x"])), sorted(map(float, box["y"]))
        if 0 < x0 < x1 and y0 < y1:
            session.update(window=(x0, x1, y0, y1))
        return
    for point in found.get("points", []):
        data: Any = point.get("customdata")
        text = data[0] if isinstance(data, (list, tuple)) and data else data
        if isinstance(text, str) and (ref := Ref.parse(text)):
            session.pick(ref)


def _zoom(rows: pd.DataFrame, view: View, budget: float) -> None:
    """The zoom is part of the view, so that it outlives new trials, a click and a copied link."""
    with st.container(horizontal=True, vertical_alignment="center"):
        near = figures.around_front(rows, view, budget)
        st.button("Zoom to the front", key="zoom_front", icon=":material/zoom_in:",
                  disabled=near in (None, view.window), on_click=session.update, kwargs={"window": near})
        st.button("Show everything", key="zoom_out", icon=":material/zoom_out_map:", disabled=view.window is None,
                  on_click=session.update, kwargs={"window": None})
        st.caption("The box tool at the chart's corner zooms, too.")


def _controls(run: Snapshot, view: View, budget: float) -> None:
    with st.container(key="front_controls"):
        slider, number, more = st.columns([5, 1.6, 4.4], vertical_alignment="bottom")
    with slider:
        session.bound(st.select_slider, "Budget (ms)", "budget_ms", key="budget_slider", value=budget,
                      options=budgets(run.frame, [budget, *run.budgets]), format_func="{:g}".format)
    with number:
        _typed(budget)
    own = run.meta.budget_ms
    if len(run.budgets) > 1:
        session.bound(st.pills, "Budgets of this run", "budget_ms", key="budget_choice", options=run.budgets,
                      value=budget if budget in run.budgets else None, label_visibility="collapsed",
                      format_func=lambda ms: f"{ms:g} ms")
    elif budget != own:
        st.button(f"Back to the run's own budget, {own:g} ms", key="budget_back", icon=":material/undo:",
                  on_click=session.update, kwargs={"budget_ms": None})
    with more, st.container(horizontal=True, vertical_alignment="bottom", key="front_more"):
        recommended.controls()
        with st.popover("Axes", icon=":material/swap_calls:", key="axes"):
            session.bound(st.selectbox, "Horizontal axis", "x", options=[*parts.axes(X_AXES, run.frame), "phone_ms"],
                          format_func=X_AXES.get, also={"window": None})
            session.bound(st.selectbox, "Vertical axis", "y", options=list(Y_AXES),
                          format_func=Y_AXES.get, also={"window": None})
            session.bound(st.toggle, "Logarithmic", "log")
            _extras(run, view)


def budgets(frame: pd.DataFrame, always: Sequence[float]) -> list[float]:
    """Budgets in ascending order for a slider as logarithmic as the chart: about 3 % apart over the latencies that
    were measured, of three digits each, and those named in `always`."""
    measured = frame.latency_ms[frame.origin == "measured"].dropna()
    low, high = (float(measured.min()), float(measured.max())) if len(measured) else (0.1 * always[0], 2 * always[0])
    low, high = max(1e-3, min(low, *always)), max(high, *always)
    count = 1 + math.ceil(math.log(high / low) / math.log(SLIDER_STEP))
    return sorted({*always, *(float(f"{value:.3g}") for value in np.geomspace(low, high, max(2, count)))})


def _typed(budget: float) -> None:
    """The budget as a number. What cannot be one is said in words and changes nothing."""
    st.session_state["budget_number"] = budget

    def take() -> None:
        value = st.session_state["budget_number"]
        if value is None or not 0 < value < MOST_MS:
            st.session_state["budget_refused"] = value
        else:
            session.update(budget_ms=float(f"{value:.6g}"))

    st.number_input("Budget (ms), typed", key="budget_number", step=budget / 20, format="%g", on_change=take,
                    label_visibility="collapsed")
    if "budget_refused" in st.session_state:
        value = st.session_state.pop("budget_refused")
        shown = "no number" if value is None else f"{value:g} ms"
        st.caption(f":red[{shown}: expected a budget above 0; {budget:g} ms stays.]")


def _extras(run: Snapshot, view: View) -> None:
    counts = run.frame.outcome.value_counts()
    options = [name for name in EXTRAS if counts.get(name) or (name == "published" and figures.published_fits(view))]
    if options:
        session.bound(st.pills, "Also show", "show", options=options, selection_mode="multi", to=tuple,
                      label_visibility="collapsed", value=[name for name in view.show if name in options],
                      format_func=lambda name: f"show {EXTRAS[name]}"
                      + (f" ({counts[name]})" if name in counts else ""))


def _left_out(frame: pd.DataFrame, view: View) -> None:
    notes = ["The line joins the front: of what meets the budget beyond doubt (the 95 % interval of its latency ends "
             "below it), nothing measured is both faster and better. Bars: 95 % interval of latency, standard "
             "deviation of the score. Filled circles are confirmed by several seeds and measured again, rings "
             "are not. The star is the recommendation; the points that tie with it have a green ring."]
    if int(frame.outcome.eq("complete").sum()) > MANY:
        notes.append("Of trials that lie over one another one is drawn; a zoom parts them.")
    if view.x == "latency_ms":
        if predicted := int((frame.origin == "predicted").sum()):
            notes.append(f"{predicted} trials are not drawn: their latency was only predicted, far over the budget.")
        unmeasured = int((frame.outcome.eq("failed") & frame.latency_ms.isna()).sum())
        if "failed" in view.show and unmeasured:
            notes.append(f"{unmeasured} failed before they were measured; the axes of parameters and GMACs show them.")
    if frame.apart_sd.notna().any():
        notes.append("The score is the top-1 that is estimated of a whole network. Its bars leave out the level that "
                     "all networks share on these images, which is the larger part of the ± in words.")
    if view.x == "phone_ms":
        notes.append("Phone latencies are predicted from what was published for seven presets and three ablations; no "
                     "phone measured these configurations.")
    if view.y == "top1":
        notes.append("Top-1 is estimated from GMACs alone by a law fitted to the published FastViTs: the search's own "
                     "score does not enter it.")
    if view.y == "long_run":
        notes.append("The score of a long run is estimated from size and, once a search has ended, from what all its "
                     "trials together say, by a law fitted to FastViT-Bench's runs of 1,200 steps.")
    if "published" in view.show and figures.published_fits(view):
        notes.append("Published points were measured and trained in full by others, without a teacher.")
    if set(view.show) & {"over_budget", "failed"}:
        notes.append("What has no score stands on the lowest line.")
    st.caption(" ".join(notes))


def _choice(runs: list[Snapshot], rows: pd.DataFrame, view: View, budget: float, found: Recommendation | None) -> None:
    options = [ref for text in figures.refs(rows) if (ref := Ref.parse(text))]
    if view.pick and view.pick not in options:
        options.append(view.pick)
    session.bound(st.selectbox, "Chosen configuration", "pick", options=options, index=None,
                  placeholder="Click a point, or choose here", format_func=lambda ref: session.label(ref, runs))
    ref = view.pick or (Ref(runs[0].name, str(found.pick.trial)) if found else None)
    if ref is None:
        st.caption("A click on a point shows it here.")
        return
    if view.pick is None:
        st.caption("The recommendation; a click on a point shows another.")
    parts.card(ref, runs, budget)
    record = runs[0].by_trial.get(ref.trial if ref.trial is not None else -1) if ref.run == runs[0].name else None
    if record is not None and (words := recommended.compared(record, runs[0], budget)):
        st.caption(parts.plain(words))
    recommended.mark(ref, runs[0])


def _table(rows: pd.DataFrame, run: Snapshot, budget: float, found: Recommendation | None) -> None:
    st.markdown("##### The front as a table")
    parts.table(parts.front_table(rows, run, budget, found), "The front, from fast to slow")


@st.cache_data(show_spinner=False, max_entries=32)
def _grown(version: str, budget: float, _run: Snapshot) -> pd.DataFrame:
    return growth.growth(_run.shown, budget)


def _growth(runs: list[Snapshot], budget: float) -> None:
    left, right = st.columns([4, 2], vertical_alignment="bottom")
    left.markdown("##### Progress of the search")
    with right:
        over = session.bound(st.segmented_control, "Progress over", "over", options=list(OVER), required=True,
                             format_func={"trial": "over trials", "minutes": "over time"}.get,
                             label_visibility="collapsed")
    every = {run.name: _grown(f"{run.path} {run.version}", budget, run) for run in runs}
    name, grown = next(iter(every.items()))
    last = grown.hypervolume.iloc[-1] if len(grown) else 0.0
    words = (f"Hypervolume of {name} under {budget:g} ms after {len(grown)} trials: {last:.4f}. It is the area "
             "between the front, presets included, and the corner of budget and score 0, as a share of the budget, "
             "with the scores that are known by now.")
    st.plotly_chart(growth.growth_figure(every, over=over), key="growth_chart", alt=words,
                    config={"displaylogo": False})
    st.caption(parts.plain(words))


def _published(view: View, runs: list[Snapshot]) -> None:
    """Others' figures in a chart of their own: another device, another task, another axis."""
    with st.expander("What was published: presets and their peers on phones, ImageNet top-1",
                     icon=":material/menu_book:", key="published", on_change="rerun") as opened:
        if not opened.open:
            return
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        where = left.selectbox("Published for", published.places(), key="published_where")
        taught = right.toggle("With a teacher", key="published_taught", help="Networks trained by distillation.")
        rows = published.selection(where, distilled=taught)
        if not len(rows):
            st.caption("Nothing was published for this device that way.")
            return
        found = session.resolve(view.pick, runs) if view.pick else None
        near = nearest_preset(found[0]) if found else None
        words = published.published_words(rows, where)
        st.plotly_chart(published.published_figure(rows, near), key="published_chart", alt=words,
                        config={"displaylogo": False})
        st.caption(parts.plain(words))
