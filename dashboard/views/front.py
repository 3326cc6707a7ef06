"""Front: the configurations that none beats, under a budget that can be moved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.estimates import with_estimate
from dashboard.figures import front as figures
from dashboard.figures import growth, published
from dashboard.figures.thin import MANY
from dashboard.load import Snapshot
from dashboard.state import EXTRAS, OVER, X_AXES, Y_AXES, Ref, View
from dashboard.views import live, parts
from fastvit.difference import nearest_preset

if TYPE_CHECKING:
    import plotly.graph_objects as go

TABLE = """<style>
.stHtml:has(.front-table) { max-height: 28rem; overflow: auto }
.front-table { border-collapse: collapse; width: 100%; font-size: 0.875rem; font-variant-numeric: tabular-nums }
.front-table :is(th, td) { text-align: left; padding: 0.25rem 0.6rem; border-bottom: 1px solid rgb(128 128 128 / 25%) }
.front-table :is(th, td:not(:last-child)) { white-space: nowrap }
.front-table td:last-child { min-width: 18rem }
</style>"""


def show() -> None:
    # What comes and goes has a place of its own: a chart that moves down a place is drawn anew and loses its zoom.
    with st.container():
        runs = session.opened()
        if not runs:
            session.focus()
        parts.state_of(runs)
        live.controls(runs)
    first, view = runs[0], session.view()
    budget = session.budget(first)
    words = figures.in_words(first.frame, view, budget)
    st.markdown(f"#### {parts.plain(words)}")
    _controls(first, view, budget)
    with st.spinner("Working out what no run measures"):
        frames = {run.name: with_estimate(with_estimate(run.frame, view.x), view.y) for run in runs}
    rows = figures.front_rows(frames[first.name], view, budget)
    figure = figures.front_figure(frames, view, budget, first.budgets)
    _decide(runs, frames, rows, figure, words, _around(view))
    _table(rows)
    _growth(runs, budget)
    _published(view, runs)


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
        _choice(runs, rows, view, budget)
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
    slider, number, x, y, log = st.columns([4, 1.5, 2.6, 2.2, 1], vertical_alignment="bottom")
    measured = run.frame.latency_ms[run.frame.origin == "measured"].dropna()
    low, high = (float(measured.min()), float(measured.max())) if len(measured) else (0.1 * budget, 2 * budget)
    step = 10 ** math.floor(math.log10(max(high - low, 1e-3) / 200))
    low, high = step * math.floor(min(low, budget) / step), step * math.ceil(max(high, budget) / step)
    with slider:
        session.bound(st.slider, "Budget (ms)", "budget_ms", key="budget_slider", min_value=low, max_value=high,
                      step=step, value=budget, format="%g")
        if len(run.budgets) > 1:
            session.bound(st.pills, "Budgets of this run", "budget_ms", key="budget_choice", options=run.budgets,
                          value=budget if budget in run.budgets else None, label_visibility="collapsed",
                          format_func=lambda ms: f"{ms:g} ms")
    with number:
        session.bound(st.number_input, "Budget (ms), typed", "budget_ms", key="budget_number", min_value=step / 100,
                      step=step * 10, value=budget, format="%g", label_visibility="collapsed")
    with x:
        session.bound(st.selectbox, "Horizontal axis", "x", options=[*parts.axes(X_AXES, run.frame), "phone_ms"],
                      format_func=X_AXES.get, also={"window": None})
    with y:
        session.bound(st.selectbox, "Vertical axis", "y", options=list(Y_AXES),
                      format_func=Y_AXES.get, also={"window": None})
    with log:
        session.bound(st.toggle, "Log", "log")
    with st.container():
        _extras(run, view)


def _extras(run: Snapshot, view: View) -> None:
    counts = run.frame.outcome.value_counts()
    options = [name for name in EXTRAS if counts.get(name) or (name == "published" and figures.published_fits(view))]
    if options:
        session.bound(st.pills, "Also show", "show", options=options, selection_mode="multi", to=tuple,
                      label_visibility="collapsed", value=[name for name in view.show if name in options],
                      format_func=lambda name: f"show {EXTRAS[name]}"
                      + (f" ({counts[name]})" if name in counts else ""))


def _left_out(frame: pd.DataFrame, view: View) -> None:
    notes = ["Bars: 95 % interval of latency, standard deviation of the score. Filled circles are confirmed by several "
             "seeds and measured again, rings are not."]
    if int(frame.outcome.eq("complete").sum()) > MANY:
        notes.append("Of trials that lie over one another one is drawn; a zoom parts them.")
    if view.x == "latency_ms":
        if predicted := int((frame.origin == "predicted").sum()):
            notes.append(f"{predicted} trials are not drawn: their latency was only predicted, far over the budget.")
        unmeasured = int((frame.outcome.eq("failed") & frame.latency_ms.isna()).sum())
        if "failed" in view.show and unmeasured:
            notes.append(f"{unmeasured} failed before they were measured; the axes of parameters and GMACs show them.")
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


def _choice(runs: list[Snapshot], rows: pd.DataFrame, view: View, budget: float) -> None:
    options = [ref for text in figures.refs(rows) if (ref := Ref.parse(text))]
    if view.pick and view.pick not in options:
        options.append(view.pick)
    session.bound(st.selectbox, "Chosen configuration", "pick", options=options, index=None,
                  placeholder="Click a point, or choose here", format_func=lambda ref: session.label(ref, runs))
    if view.pick is None:
        st.caption("A click on a point shows it here. The points on the blue line are the front: nothing measured is "
                   "both faster and better.")
        return
    parts.card(view.pick, runs, budget)


def _table(rows: pd.DataFrame) -> None:
    """In HTML, which readers of screens walk cell by cell, and which a keyboard is not caught in."""
    st.markdown("##### The front as a table")
    st.html(TABLE + parts.front_table(rows).to_html(index=False, border=0, classes="front-table"))  # text is escaped


@st.cache_data(show_spinner=False, max_entries=32)
def _grown(version: str, budget: float, _run: Snapshot) -> pd.DataFrame:
    return growth.growth(_run.frame, budget, float(_run.meta.get("score_floor", 0.0)))


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
             "between the front and the corner of budget and worst score, as a share of the budget, from single runs; "
             "presets are not counted.")
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
