"""Trials: every one of them, what became of it and why."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.figures.front import refs
from dashboard.state import MAX_TEXT, Ref
from dashboard.tables import filtered, reasons, to_csv, to_parquet
from dashboard.views import parts
from nas.runs.run import Outcome

SHOWN = ("trial", "outcome", "preset", "latency_ms", "ci_low_ms", "ci_high_ms", "origin", "score", "score_sd",
         "params_m", "gmacs", "confirmed", "steps", "latency_s", "proxy_s", "reason", "words")


def show() -> None:
    runs = session.chosen()
    first = runs[0]
    view = session.view()
    parts.state_of(runs)
    everything = pd.concat([run.frame for run in runs], ignore_index=True)
    states, text = st.columns([3, 2], vertical_alignment="bottom")
    with states:
        counts = everything.outcome.value_counts()
        session.bound(st.pills, "State", "states", options=[name for name in Outcome if counts.get(name)],
                      value=[name for name in view.states if counts.get(name)], to=tuple, selection_mode="multi",
                      format_func=lambda name: f"{name.replace('_', ' ')} ({counts[name]})")
    with text:
        session.bound(st.text_input, "Find", "find", max_chars=MAX_TEXT, icon=":material/search:",
                      placeholder="words of a configuration or a reason, a preset, a number")
    rows = filtered(everything, view.states, view.find)
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.markdown(f"**{len(rows):,} of {len(everything):,} trials.** "
                  + ("A ticked row becomes the chosen configuration." if len(rows) else "Nothing is like that."))
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        name = first.name if len(runs) == 1 else "runs"
        st.download_button("CSV", lambda: to_csv(rows), f"{name}-trials.csv", "text/csv", key="trials_csv",
                           icon=":material/download:", on_click="ignore")
        st.download_button("Parquet", lambda: to_parquet(rows), f"{name}-trials.parquet",
                           "application/vnd.apache.parquet", key="trials_parquet", icon=":material/download:",
                           on_click="ignore")
    _table(rows, len(runs) > 1)
    if view.pick is not None:
        with st.container(border=True):
            parts.card(view.pick, runs, session.budget(first), wide=True)
    _reasons(everything)


def _table(rows: pd.DataFrame, several: bool) -> None:
    shown = rows[[*(["run"] if several else []), *SHOWN]].copy()
    shown["outcome"] = shown.outcome.str.replace("_", " ")
    shown["preset"] = [name.upper() if isinstance(name, str) else "" for name in shown.preset]
    st.dataframe(
        shown, hide_index=True, key="trials_table", height=min(440, 38 + 35 * max(1, len(rows))), placeholder="",
        selection_mode="single-row", on_select=lambda: _row(rows),
        alt=f"{len(rows)} trials with state, latency, score, size and configuration.",
        column_config=parts.COLUMNS | {"outcome": "state", "steps": "steps",
                                       "latency_s": parts.NUMBER("measuring s", format="%.1f"),
                                       "proxy_s": parts.NUMBER("training s", format="%.1f")})


def _row(rows: pd.DataFrame) -> None:
    chosen = st.session_state["trials_table"]["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        session.pick(Ref.parse(refs(rows.iloc[[chosen[0]]])[0]))


def _reasons(frame: pd.DataFrame) -> None:
    found = reasons(frame)
    st.markdown("##### Why trials ended early")
    if not len(found):
        st.caption("Every trial so far is complete.")
        return
    st.dataframe(found.assign(outcome=found.outcome.str.replace("_", " ")), hide_index=True, column_config={
        "outcome": "state", "reason": st.column_config.TextColumn("reason, numbers left out", width="large"),
        "trials": "trials", "example": "latest of them"}, alt="Reasons with the number of trials each.")
