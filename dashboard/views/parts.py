"""Pieces that several pages show."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import session
from dashboard.load import Snapshot
from dashboard.state import Ref
from dashboard.text import plain as plain
from fastvit.difference import in_words, nearest_preset
from fastvit.presets import PRESETS
from nas.runs.run import OUTCOMES, TrialRecord

NUMBER = st.column_config.NumberColumn
COLUMNS: dict[str, Any] = {
    "latency_ms": NUMBER("latency ms", format="%.3f"), "ci_low_ms": NUMBER("95 % low", format="%.3f"),
    "ci_high_ms": NUMBER("95 % high", format="%.3f"), "score": NUMBER("score", format="%.3f"),
    "score_sd": NUMBER("± sd", format="%.3f"), "params_m": NUMBER("params M", format="%.2f"),
    "gmacs": NUMBER("GMACs", format="%.3f"), "difference": "from the nearest preset", "words": "configuration"}


def axes(known: dict[str, str], frame: pd.DataFrame) -> list[str]:
    """The axes that a run has figures for."""
    return [name for name in known if name in frame and frame[name].notna().any()] or list(known)[:1]


def state_of(runs: list[Snapshot]) -> None:
    """One line a run: its state, its counts, and what it was measured on."""
    for run in runs:
        counts = run.frame.outcome.value_counts()
        origin = "predicted" if set(run.frame.origin.dropna().unique()) == {"predicted"} else "measured"
        words = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in OUTCOMES if counts.get(name))
        minutes = float(run.meta.get("elapsed_s", 0.0)) / 60
        demo = ":orange-badge[demonstration: every latency and score comes from a formula] "
        st.caption((demo if run.meta.get("synthetic") else "") + f"**{plain(run.name)}** {plain(run.state)}"
                   + (f" after {minutes:.1f} minutes" if minutes else "") + f": {words or 'no trials yet'}. "
                   f"Latency {origin} on {plain(run.meta['device'])} at {run.meta['resolution']} px, "
                   f"task {plain(run.meta['task'])}, budget {run.meta['budget_ms']:g} ms.")


def front_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The front for readers: one row a configuration."""
    def spread(low: str, high: str) -> list[str]:
        return [f"{a:.3f} to {b:.3f}" for a, b in zip(rows[low], rows[high], strict=True)]

    return pd.DataFrame({
        "trial": rows.trial, "preset": rows.preset.fillna("").str.upper(),
        "latency ms": rows.latency_ms.map("{:.3f}".format),
        "95 %": spread("ci_low_ms", "ci_high_ms"), "score": rows.score.map("{:.3f}".format),
        "± sd": rows.score_sd.map(lambda sd: f"{sd:.3f}" if sd == sd else ""),
        "confirmed": ["yes" if one else "no" for one in rows.confirmed], "params M": rows.params_m.map("{:.2f}".format),
        "GMACs": rows.gmacs.map("{:.3f}".format), "configuration": rows.words})


SCORES = {"confirmed": "proxy score, mean of seeds", "posterior": "proxy score, all trials together",
          "run": "proxy score, one run"}


def metrics(record: TrialRecord, budget_ms: float, left: DeltaGenerator, right: DeltaGenerator) -> None:
    """Latency and score as large figures with their uncertainty; a prediction is called one."""
    if record.latency is not None and record.latency_ms is not None:
        low, high = record.latency.get("ci_low_ms"), record.latency.get("ci_high_ms")
        below = "predicted, not measured"
        if low is not None and high is not None:
            below = f"95 %: {low:.3f} to {high:.3f}" + (", over" if low > budget_ms else "")
        left.metric("latency", f"{record.latency_ms:.3f} ms", below, delta_color="off", delta_arrow="off")
    score, sd, origin = record.estimate
    if score is not None:
        label = "proxy score, so far" if record.outcome == "stopped_early" else SCORES[origin or "run"]
        right.metric(label, f"{score:.3f}", f"± {sd:.3f}" if sd else None, delta_color="off", delta_arrow="off")


def card(ref: Ref, runs: list[Snapshot], budget_ms: float, *, wide: bool = False) -> None:
    """One configuration in brief, and the ways on from it."""
    found = session.resolve(ref, runs)
    if found is None:
        st.info("That trial is not in the chosen runs, or it never got a configuration.")
        return
    config, record = found
    name = st.container()
    if wide:
        name, left, right = st.columns([2, 3, 3])
    else:
        left, right = st.columns(2)
    name.markdown(f"**{plain(session.label(ref, runs))}**")
    if record is not None:
        metrics(record, budget_ms, left, right)
        if record.reason:
            st.caption(plain(f"{record.outcome.replace('_', ' ')}: {record.reason}"))
    near = nearest_preset(config)
    words = config.describe()
    st.markdown(plain(words) if wide else "\n".join(f"- {plain(word)}" for word in words.split(", ")))
    if config != PRESETS[near]:
        st.caption(f"Nearest preset {near.upper()}: {plain(in_words(config, PRESETS[near]))}.")
    one, two = st.columns(2)
    one.button("Look closer", type="primary", width="stretch", key="card_open", on_click=session.go,
               args=("configuration", ref))
    two.button("Compare", width="stretch", key="card_compare", on_click=session.compare, args=(ref,),
               disabled=ref in session.view().compare, help="Adds it to the Compare page.")


def picture(svg: str) -> None:
    """Drawn from a validated configuration alone; inline, so that it takes the theme's colours."""
    st.markdown(f'<div style="overflow-x:auto">{svg}</div>', unsafe_allow_html=True)
