"""Front: the configurations that none beats, under a budget that can be moved."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.figures import front as figures
from dashboard.load import Snapshot
from dashboard.state import EXTRAS, X_AXES, Ref, View
from dashboard.views import parts

REFRESH_S = 3.0


def show() -> None:
    runs = session.opened()
    if not runs:
        session.focus()
    live = any(run.state == "running" for run in runs)
    if live:
        st.toggle("Live: show new trials as they arrive", value=True, key="live",
                  help="Pause to look at the chart in peace; nothing is lost.")
    every = REFRESH_S if live and st.session_state.get("live", True) else None
    st.fragment(_content, run_every=every)()


def _content() -> None:
    runs = session.opened()
    first, view = runs[0], session.view()
    budget = session.budget(first)
    parts.state_of(runs)
    st.markdown(f"#### {parts.plain(figures.in_words(first.frame, view, budget))}")
    _controls(first, view, budget)
    frames = {run.name: run.frame for run in runs}
    left, right = st.columns([7, 3])
    with left:
        figure = figures.front_figure(frames, view, budget)
        st.plotly_chart(figure, key="front_chart", on_select=_clicked, selection_mode="points",
                        config={"displaylogo": False, "scrollZoom": False},
                        alt=figures.in_words(first.frame, view, budget))
        _left_out(first.frame, view)
    with right:
        _choice(runs, view, budget)
    _table(first, view, budget)
    _growth(frames, budget, first)
    session.write_url()


def _clicked() -> None:
    """Keep what was clicked as our own state: with the next figure, plotly's selection is gone."""
    points = (st.session_state.get("front_chart") or {}).get("selection", {}).get("points", [])
    for point in points:
        data: Any = point.get("customdata")
        text = data[0] if isinstance(data, (list, tuple)) and data else data
        if isinstance(text, str) and (ref := Ref.parse(text)):
            session.pick(ref)


def _controls(run: Snapshot, view: View, budget: float) -> None:
    slider, number, x, log, extras = st.columns([4, 1.4, 2.6, 1, 4], vertical_alignment="bottom")
    measured = run.frame.latency_ms[run.frame.origin == "measured"].dropna()
    low, high = (float(measured.min()), float(measured.max())) if len(measured) else (0.1 * budget, 2 * budget)
    step = 10 ** math.floor(math.log10(max(high - low, 1e-3) / 200))
    low, high = step * math.floor(min(low, budget) / step), step * math.ceil(max(high, budget) / step)
    with slider:
        session.bound(st.slider, "Budget (ms)", "budget_ms", key="budget_slider", min_value=low, max_value=high,
                      step=step, value=budget, format="%g")
    with number:
        session.bound(st.number_input, "Budget (ms), typed", "budget_ms", key="budget_number", min_value=step / 100,
                      step=step * 10, value=budget, format="%g", label_visibility="collapsed")
    with x:
        session.bound(st.selectbox, "Horizontal axis", "x", options=parts.axes(X_AXES, run.frame),
                      format_func=X_AXES.get)
    with log:
        session.bound(st.toggle, "Log", "log")
    with extras:
        options = [name for name in EXTRAS if name != "published" or view.x == "phone_ms"]
        session.bound(st.pills, "Also show", "show", options=options, format_func=EXTRAS.get, selection_mode="multi",
                      value=[name for name in view.show if name in options], to=tuple)


def _left_out(frame: pd.DataFrame, view: View) -> None:
    predicted = int((frame.origin == "predicted").sum())
    notes = ["Bars: 95 % interval of latency, standard deviation of the score."]
    if predicted and view.x == "latency_ms":
        notes.append(f"{predicted} trials are not drawn: their latency was only predicted, far over the budget.")
    if set(view.show) & {"over_budget", "failed"}:
        notes.append("Trials without a score stand on the lowest line.")
    st.caption(" ".join(notes))


def _choice(runs: list[Snapshot], view: View, budget: float) -> None:
    rows = figures.front_rows(runs[0].frame, view, budget)
    options = [ref for text in figures.refs(rows) if (ref := Ref.parse(text))]
    if view.pick and view.pick not in options:
        options.append(view.pick)
    session.bound(st.selectbox, "Chosen configuration", "pick", options=options, index=None,
                  placeholder="Click a point, or choose here", format_func=lambda ref: session.label(ref, runs))
    if view.pick is None:
        st.caption("A click on a point shows it here. Rings on the blue line are the front: nothing measured is both "
                   "faster and better.")
        return
    parts.card(view.pick, runs, budget)


def _table(run: Snapshot, view: View, budget: float) -> None:
    rows = figures.front_rows(run.frame, view, budget)
    st.markdown("##### The front as a table")
    shown = parts.front_table(rows)
    st.dataframe(shown, hide_index=True, key="front_table", on_select=lambda: _row(rows), selection_mode="single-row",
                 column_config=parts.COLUMNS, height=min(420, 38 + 35 * max(1, len(shown))))


def _row(rows: pd.DataFrame) -> None:
    chosen = st.session_state["front_table"]["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        session.pick(Ref.parse(figures.refs(rows)[chosen[0]]))


def _growth(frames: dict[str, pd.DataFrame], budget: float, run: Snapshot) -> None:
    st.markdown("##### Progress of the search")
    over = "minutes" if st.toggle("Over time instead of trials", key="growth_over") else "trial"
    floor = float(run.meta.get("score_floor", 0.0))
    grown = figures.growth(run.frame, budget, floor)
    last = grown.hypervolume.iloc[-1] if len(grown) else 0.0
    words = (f"Hypervolume of {run.name} under {budget:g} ms after {len(grown)} trials: {last:.4f}. It is the area "
             "between the front and the corner of budget and worst score, as a share of the budget; presets are not "
             "counted.")
    st.plotly_chart(figures.growth_figure(frames, budget, over=over, score_floor=floor), key="growth_chart", alt=words,
                    config={"displaylogo": False})
    st.caption(words)

