"""Pieces that several pages show."""

from __future__ import annotations

import html
import re
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import session
from dashboard.load import PROXY_SCORE, Snapshot
from dashboard.state import Ref
from dashboard.text import plain as plain
from fastvit.difference import in_words, nearest_preset
from fastvit.presets import PRESETS
from nas.report.recommendation import Recommendation, delta, reference
from nas.runs.budget import is_over_budget
from nas.runs.run import Outcome, Trial

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
        words = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in Outcome if counts.get(name))
        minutes = run.progress.elapsed_s / 60
        state = "damaged" if run.missing else plain(run.state)
        st.caption(f"**{plain(run.name)}** {state}"
                   + (f" after {minutes:.1f} minutes" if minutes else "") + f": {words or 'no trials yet'}. "
                   f"Latency {origin} on {plain(run.meta.device)} at {run.meta.resolution} px, "
                   f"task {plain(run.meta.task)}, budget {run.meta.budget_ms:g} ms.")


def front_table(rows: pd.DataFrame, run: Snapshot, budget_ms: float, found: Recommendation | None) -> pd.DataFrame:
    """The front for readers: one row a configuration, beside the preset of the reader's choice."""
    records = [run.by_trial[trial] for trial in rows.trial]
    tied = [] if found is None else [record.trial for record in found.tied]
    bases = [reference(run.records, budget_ms, record, session.view().against) for record in records]
    beside = [None if base is None or base is record else delta(record, base)
              for record, base in zip(records, bases, strict=True)]
    named = {base.preset for base in bases if base is not None and base.preset}
    against = f"against {named.pop().upper()}" if len(named) == 1 else "against a preset"
    stars = [run.marks.get(trial) for trial in rows.trial]
    table = pd.DataFrame({
        "trial": [f"{trial}" + (" ★" if mark and mark.star else "")
                  for trial, mark in zip(rows.trial, stars, strict=True)],
        "": ["recommended" if found and trial == found.pick.trial else "ties" if trial in tied else ""
             for trial in rows.trial],
        "preset": rows.preset.fillna("").str.upper(),
        "latency ms [95 %]": [f"{ms:.3f} [{low:.3f}, {high:.3f}]" for ms, low, high in
                              zip(rows.latency_ms, rows.ci_low_ms, rows.ci_high_ms, strict=True)],
        run.unit: [f"{score:.3f}" + (f" ± {sd:.3f}" if sd == sd else "")
                  for score, sd in zip(rows.score, rows.score_sd, strict=True)],
        "confirmed": ["yes" if one else "no" for one in rows.confirmed],
        against: ["" if one is None else ("" if len(named) == 0 else f"{one.preset.upper()}: ") + one.figures
                  for one in beside],
        "params M": rows.params_m.map("{:.2f}".format), "GMACs": rows.gmacs.map("{:.3f}".format),
        "note": [mark.note if mark else "" for mark in stars], "configuration": rows.words})
    empty = [name for name in ("preset", "note", against) if not table[name].astype(bool).any()]
    return table.drop(columns=empty).rename(columns={"": "standing"})


SCORES = {"confirmed": "further seeds", "posterior": "all trials together", "run": "one run"}


def score_label(source: str, unit: str) -> str:
    """What a score is and what it rests on; only estimates and trained networks are whole ones."""
    if source == "trained":
        return "top-1, trained at full width"
    whole = unit if source == "posterior" and unit != "top-1 on held-out images" else PROXY_SCORE
    return f"{whole}, {SCORES.get(source, source)}"


def metrics(record: Trial, budget_ms: float, unit: str, left: DeltaGenerator, right: DeltaGenerator) -> None:
    """Latency and score as large figures with their uncertainty; a prediction is called one."""
    if record.latency_ms is not None:
        below = "predicted, not measured"
        if record.latency is not None:
            low, high = record.latency.ci_low_ms, record.latency.ci_high_ms
            below = f"95 %: {low:.3f} to {high:.3f}" + (", over" if is_over_budget(low, budget_ms) else "")
        left.metric("latency", f"{record.latency_ms:.3f} ms", below, delta_color="off", delta_arrow="off")
    if (score := record.shown) is not None:
        label = "proxy score, so far" if record.outcome == "stopped_early" else score_label(score.source, unit)
        right.metric(label, f"{score.value:.3f}", f"± {score.sd:.3f}" if score.sd else None, delta_color="off",
                     delta_arrow="off")


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
        metrics(record, budget_ms, runs[0].unit, left, right)
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


def code(text: str) -> None:
    """Lines to copy, without colours: those of Streamlit's highlighter are too faint on light paper."""
    st.code(text, language=None, wrap_lines=True)


def table(frame: pd.DataFrame, name: str, *, rows: bool = False) -> None:
    """A table in HTML, which readers of screens walk cell by cell and a keyboard scrolls and leaves again.

    Args:
        name: what it is called, for readers of screens.
        rows: whether the first column names the row.
    """
    text = frame.to_html(index=False, border=0, classes="plain-table")  # cells are escaped
    if rows:
        text = re.sub(r"<tr>\s*<td>(.*?)</td>", r'<tr><th scope="row">\1</th>', text, flags=re.S)
    st.html(f'<div class="scrolls" role="group" tabindex="0" aria-label="{html.escape(name)}">{text}</div>')


def picture(svg: str, name: str) -> None:
    """Drawn from a validated configuration alone; inline, so that it takes the theme's colours. A keyboard reaches it
    where it is wider than the page."""
    st.markdown(f'<div style="overflow-x:auto" role="group" tabindex="0" aria-label="{html.escape(name)}">{svg}</div>',
                unsafe_allow_html=True)
