"""New trials as they arrive, and pause: while paused, every page shows the runs as they stood."""

from __future__ import annotations

import streamlit as st

from dashboard import session
from dashboard.load import Snapshot

REFRESH_S = 2.0


def controls(runs: list[Snapshot]) -> None:
    """A switch while any of the runs is going on; the page is drawn anew only when a trial has arrived."""
    if not any(run.state == "running" for run in runs) and not session.paused():
        return
    on = not session.paused()
    st.session_state["live"] = on
    st.toggle("Live: show new trials as they arrive", key="live", on_change=_switched,
              help="Pause to look at the chart in peace; nothing is lost.")
    if on:
        st.fragment(_watch, run_every=REFRESH_S)(tuple(run.version for run in runs))


def _switched() -> None:
    session.pause(not st.session_state["live"])


def _watch(shown: tuple[str, ...]) -> None:
    if tuple(run.version for run in session.opened()) != shown:
        session.touch()  # this request's address may be older than the last click
        st.rerun()
