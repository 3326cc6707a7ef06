"""A run that goes on: how far it is, new trials as they arrive, and pause, which holds every page as it stood."""

from __future__ import annotations

import time

import streamlit as st

from dashboard import session
from dashboard.load import Snapshot
from dashboard.progress import failures, phase, plan, queue_words
from dashboard.text import plain

REFRESH_S = 2.0


def show(runs: list[Snapshot]) -> None:
    """How far each running run is, and what waits in any; the page is drawn anew only when a trial has arrived."""
    for run in runs:
        if run.state == "running":
            st.info(plain(f"{run.name}. {phase(run, time.time())} {queue_words(run)}"), icon=":material/play_circle:")
            with st.expander("The plan of the run, and what failed", icon=":material/list:"):
                st.markdown("\n".join(f"- {plain(line)}" for line in [plan(run), *failures(run)]))
        elif words := queue_words(run):
            st.info(plain(f"{run.name} is {run.state}: {words} `python search.py resume {run.path}` goes on."),
                    icon=":material/hourglass_empty:")
    if not any(run.state == "running" for run in runs) and not session.paused():
        return
    on = not session.paused()
    st.session_state["live"] = on
    st.toggle("Live: show new trials as they arrive", key="live", on_change=_switched,
              help="Pause to look at the chart in peace; nothing is lost.")
    if not on:
        st.caption("Paused: every page shows the runs as they stood.")
    else:
        st.fragment(_watch, run_every=REFRESH_S)(tuple(run.version for run in runs))


def _switched() -> None:
    session.pause(not st.session_state["live"])


def _watch(shown: tuple[str, ...]) -> None:
    if tuple(run.version for run in session.opened()[0]) != shown:
        session.touch()  # this request's address may be older than the last click
        st.rerun()
