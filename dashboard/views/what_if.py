"""What if: change a configuration, see what the run's trials predict at once, and send it to the run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.figures import detail
from dashboard.load import Snapshot
from dashboard.predict import Forecast
from dashboard.views import parts
from dashboard.views.space import space_of
from dashboard.what_if import changed, choices
from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.difference import in_words
from nas.runs.run import Run, TrialRecord
from space import SearchSpace


@st.cache_resource(show_spinner="Learning from the run's trials", max_entries=8)
def forecast(version: str, _run: Snapshot) -> Forecast:
    return Forecast.fit(_run.meta, _run.records)


def show(run: Snapshot, config: FastViTConfig, record: TrialRecord | None) -> None:
    st.markdown("##### What if")
    space = space_of(run.meta["space"]["toml"])
    if config not in space:
        st.caption(f"This configuration is outside of the run's space {parts.plain(space.name)}: nothing can be "
                   "predicted from here.")
        return
    known = forecast(f"{run.path}/{len(run.records) // (1 if run.state != 'running' else 10)}", run)
    st.caption(known.words)
    _configurator(run, config, known, space)
    _neighbours(config, known, space, float(run.meta["budget_ms"]))


@st.fragment
def _configurator(run: Snapshot, start: FastViTConfig, known: Forecast, space: SearchSpace) -> None:
    if st.session_state.get("what_if_from") != start:
        st.session_state["what_if_from"] = st.session_state["what_if"] = start
    config: FastViTConfig = st.session_state["what_if"]
    _prediction(start, config, known, run)
    _send(run, config, start, space)
    columns = st.columns(4)
    for column, title in zip(columns, ("Stage 1", "Stage 2", "Stage 3", "Stage 4"), strict=True):
        column.markdown(f"**{title}**")
    for choice in choices(space, config):
        key = f"what_if_{choice.field}_{choice.index}"
        st.session_state[key] = choice.value

        def take(key: str = key, field: str = choice.field, index: int = choice.index) -> None:
            now = st.session_state["what_if"]
            st.session_state["what_if"] = changed(space, now, field, index, st.session_state[key])

        # A patch embedding stands before a stage: the first one before stage 2.
        at = choice.index + (choice.field == "patch_kernels")
        columns[at].selectbox(f"{choice.label}, stage {at + 1}", choice.options, key=key, on_change=take)


def _prediction(start: FastViTConfig, config: FastViTConfig, known: Forecast, run: Snapshot) -> None:
    resolution, classes = int(run.meta["resolution"]), int(run.meta.get("num_classes", 1000))
    before, after = known.guess([start, config])
    old, new = cost(start, resolution, classes), cost(config, resolution, classes)
    latency, score, params, macs = st.columns(4)
    budget = float(run.meta["budget_ms"])
    with latency:
        _metric("predicted latency", after["latency_ms"], after["latency_sd"], before["latency_ms"], " ms",
                inverse=True)
        if after["latency_ms"] is not None and after["latency_ms"] > budget:
            st.caption(f":material/warning: over the budget of {budget:g} ms")
    with score:
        _metric("predicted proxy score", after["score"], after["score_sd"], before["score"], "")
    params.metric("parameters", f"{new.params_m:.2f} M", _delta(new.params_m - old.params_m, 2), delta_color="off")
    macs.metric("GMACs", f"{new.gmacs:.3f}", _delta(new.gmacs - old.gmacs, 3), delta_color="off")
    st.caption(f"From the chosen one: {parts.plain(in_words(config, start))}.")


def _delta(value: float, digits: int) -> str | None:
    return f"{value:+.{digits}f}" if abs(value) >= 0.5 * 10**-digits else None


def _metric(label: str, value: float | None, sd: float | None, before: float | None, unit: str, *,
            inverse: bool = False) -> None:
    if value is None or sd is None:
        st.metric(label, "too few trials")
        return
    delta = None if before is None else _delta(value - before, 3)
    st.metric(label, f"{value:.3f} ± {sd:.3f}{unit}", delta, delta_color="inverse" if inverse else "normal")


def _send(run: Snapshot, config: FastViTConfig, start: FastViTConfig, space: SearchSpace) -> None:
    tried = next((r for r in run.records if r.config_key == config.key() and r.outcome != "failed"), None)
    left, middle, right = st.columns([1, 1, 3], vertical_alignment="center")
    if left.button("Send to the run", type="primary", disabled=tried is not None, key="what_if_send", width="stretch",
                   help="Puts this configuration in the run's queue; the search measures and trains it next."):
        with st.spinner("Writing to the run's journal"):
            sent = send(run, space, config)
        right.success(sent)
    if middle.button("Start over", disabled=config == start, key="what_if_reset", width="stretch"):
        st.session_state["what_if"] = start
        st.rerun(scope="fragment")
    if tried is not None and config != start:
        right.caption(f"Tried already, as trial {tried.trial}.")


def send(run: Snapshot, space: SearchSpace, config: FastViTConfig) -> str:
    """Queue a configuration as a trial of the run; what happens next, in a sentence."""
    study = Run.open(run.path).study
    study.enqueue_trial(space.encode(config), user_attrs={"sent_by": "dashboard"}, skip_if_exists=True)
    if run.state == "running":
        return "In the queue: a worker takes it next."
    return f"In the queue. The run is {run.state}; `python search.py resume {run.path} --trials 1` evaluates it."


def _neighbours(config: FastViTConfig, known: Forecast, space: SearchSpace, budget: float) -> None:
    near = space.neighbours(config)
    guesses = known.guess([config, *near])
    rows: list[dict[str, Any]] = [{"change": in_words(other, config), **guess}
                                  for other, guess in zip(near, guesses[1:], strict=True) if guess["score"] is not None]
    if not rows or guesses[0]["score"] is None:
        return
    st.markdown("##### One step away")
    better = [r for r in rows if r["score"] > guesses[0]["score"] and r["latency_ms"] <= budget]
    words = (f"{len(rows)} configurations differ by one step; {len(better)} of them are predicted to score higher "
             f"under {budget:g} ms. Bars are one standard deviation of the prediction.")
    left, right = st.columns(2)
    with left:
        st.plotly_chart(detail.neighbours_figure(rows, guesses[0], budget), key="neighbours", alt=words,
                        config={"displaylogo": False})
        st.caption(words)
    table = pd.DataFrame(rows).sort_values("score", ascending=False)
    number = st.column_config.NumberColumn
    with right:
        st.dataframe(table, hide_index=True, height=360, column_config={
            "change": "change", "latency_ms": number("predicted ms", format="%.3f"),
            "latency_sd": number("± ms", format="%.3f"), "score": number("predicted score", format="%.3f"),
            "score_sd": number("± score", format="%.3f")})
