"""The recommendation on the front page: which network to take, why, what ties with it, and what more time buys."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import session
from dashboard.figures.gain import gain_figure
from dashboard.load import Snapshot
from dashboard.state import LIMITS, Ref
from dashboard.views import parts
from fastvit.presets import PRESETS
from nas.report.recommendation import LARGEST, NEAREST, Recommendation, delta, name, reference, why_faster
from nas.runs.marks import MOST_LETTERS, Mark, write_mark
from nas.runs.marks import NONE as NO_MARK
from nas.runs.run import Run, Trial
from nas.search.front import fell_off, movement

BESIDE = (LARGEST, NEAREST, *PRESETS)


def headline(found: Recommendation | None, words: str) -> None:
    """The first line of the page; what the chart shows stands below it."""
    if found is None:
        limits = session.limits().words()
        st.markdown(f"#### {parts.plain(words)}")
        if limits:
            st.caption(f"No point meets the limits: {parts.plain(limits)}.")
        return
    st.markdown(f"#### Take {parts.plain(found.headline())}")
    st.caption(parts.plain(words))


def details(run: Snapshot, found: Recommendation | None, budget: float) -> None:
    """Below the chart: the reasons, the confirmation, and the curve of what more time buys."""
    st.markdown("##### Why this one")
    left, right = st.columns([3, 2], gap="large")
    with left:
        if found is not None:
            for note in found.notes():
                st.markdown(f"- {parts.plain(note)}")
            if found.delta and found.pick.config:
                st.markdown(f"- {parts.plain(beside(found.pick, run, found.delta.preset))}")
        said = movement(run.records, budget)
        said = said[0].upper() + said[1:] if said else "Nothing was confirmed with further seeds"
        st.markdown(f"- {parts.plain(said)}.")
        if fell := fell_off(run.records, budget):
            st.markdown("- " + parts.plain(f"Fell off the front when confirmed: {', '.join(name(r) for r in fell)}."))
        crossing = [r for r in run.records if r.latency and r.origin == "measured" and r.outcome == "complete"
                    and not r.latency.decides(budget)]
        if crossing:
            count = f"{len(crossing)} trial{'s' * (len(crossing) > 1)}"
            st.markdown(f"- The latency's 95 % interval crosses the budget of {budget:g} ms in {count}: not beyond "
                        "doubt under it, and so not on the front.")
    with right:
        if found is not None and found.more:
            words = found.more_time()
            st.plotly_chart(gain_figure(found), key="gain", alt=words, config={"displaylogo": False})
            st.caption(parts.plain(words))


def beside(record: Trial, run: Snapshot, preset: str) -> str:
    """A trial against a preset in full: figures, what differs, and where that saves or costs."""
    base = next((r for r in run.records if r.preset == preset and r.latency_ms), None)
    if base is None or not record.config or not record.latency_ms or record.origin != "measured":
        return ""
    found = delta(record, base)
    why = why_faster(record.architecture, base.architecture, run.meta.resolution,
                     run.meta.num_classes)
    return f"Against {preset.upper()}: {found.figures}. Changes: {found.changes}." + (f" That is {why}." if why else "")


def compared(record: Trial, run: Snapshot, budget: float) -> str:
    """A trial against the preset of the reader's choice; empty where the run has none."""
    base = reference(run.records, budget, record, session.view().against)
    return "" if base is None or base is record or base.preset is None else beside(record, run, base.preset)


def controls() -> None:
    """What a network must meet, and the preset that it stands beside."""
    limits = [session.view().limit(field) for field in LIMITS]
    count = sum(value is not None for value in limits)
    with st.popover(f"Limits ({count})" if count else "Limits", icon=":material/rule:", key="limits"):
        st.caption("Beside the budget, a network must meet these. Sizes and memory are of float32 weights; memory is "
                   "estimated: weights and the largest maps that are alive at once.")
        for field, (label, step) in LIMITS.items():
            _limit(field, label, step)
        session.bound(st.selectbox, "Compare with", "against", options=BESIDE, format_func=_beside_label)


def _limit(field: str, label: str, step: float) -> None:
    key = f"limit_{field}"
    st.session_state[key] = session.view().limit(field)

    def take() -> None:
        value: Any = st.session_state[key]
        session.update(limits=session.view().limited(field, value if value is None or value > 0 else None))

    st.number_input(label, key=key, step=step, format="%g", on_change=take, placeholder="any", value=None)


def _beside_label(value: str) -> str:
    return {LARGEST: "the largest preset under the budget", NEAREST: "the nearest preset"}.get(value, value.upper())


def mark(ref: Ref, run: Snapshot) -> None:
    """The star and the note of a trial, kept in the run."""
    if ref.trial is None or ref.run != run.name:
        return
    now = run.marks.get(ref.trial, NO_MARK)
    star, note = f"star_{ref}", f"note_{ref}"
    st.session_state[star], st.session_state[note] = now.star, now.note

    def keep() -> None:
        write_mark(Run.open(run.path), ref.trial or 0, Mark(bool(st.session_state[star]),
                                                            str(st.session_state[note] or "").strip()))

    st.toggle("Star", key=star, on_change=keep)
    st.text_input("Note, kept in the run", key=note, on_change=keep, max_chars=MOST_LETTERS,
                  placeholder="A note, kept in the run", label_visibility="collapsed")
