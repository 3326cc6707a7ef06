"""What if: change a configuration, see what the run's trials predict at once, and send it to the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.figures import detail
from dashboard.load import PROXY_SCORE, Snapshot
from dashboard.views import parts
from dashboard.views.space import space_of
from dashboard.what_if import changed, changes, choices, with_changes
from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.difference import in_words
from nas.errors import UsageError
from nas.estimate.forecast import Forecast, known
from nas.estimate.posterior import Posterior
from nas.runs.run import Run, Trial
from space import SearchSpace


@st.cache_resource(show_spinner="Learning from the run's trials", max_entries=8)
def forecast(version: str, _run: Snapshot) -> Forecast:
    found = Forecast.fit(_run.meta, _run.records, fits().get(_run.path) or _run.kept)
    if isinstance(found.score, Posterior) and found.score.ready:
        fits()[_run.path] = found.score.kept
    return found


@st.cache_resource
def fits() -> dict[Path, dict[str, Any]]:
    """The latest fit's kernel of each run, with which the next one of a live run begins."""
    return {}


@st.cache_data(show_spinner="Predicting what was left out", max_entries=8)
def worth(version: str, _known: Forecast) -> str:
    return _known.words()


def show(run: Snapshot, config: FastViTConfig, record: Trial | None) -> None:
    st.markdown("##### What if")
    try:
        space = space_of(run.meta.space.toml)
    except UsageError as error:
        st.caption(parts.plain(f"{error}; nothing can be predicted from here."))
        return
    if config not in space:
        st.caption(f"This configuration is outside of the run's space {parts.plain(space.name)}: nothing can be "
                   "predicted from here.")
        return
    version = f"{run.path}/{len(run.records) // (1 if run.state != 'running' else 10)}/{run.kept.get('rows')}"
    forecasts = forecast(version, run)
    _configurator(run, config, forecasts, space)
    _neighbours(config, forecasts, space, run.meta.budget_ms)
    st.caption(worth(version, forecasts))


@st.fragment
def _configurator(run: Snapshot, start: FastViTConfig, forecasts: Forecast, space: SearchSpace) -> None:
    said = session.view().change
    if st.session_state.get("what_if_from") != (start, said):
        st.session_state["what_if"] = with_changes(space, start, said) or start
    config: FastViTConfig = st.session_state["what_if"]
    session.keep(change=changes(config, start))
    st.session_state["what_if_from"] = start, session.view().change
    _prediction(start, config, forecasts, run)
    _send(run, config, start, space)
    columns = st.columns(4)
    for column, title in zip(columns, ("Stage 1", "Stage 2", "Stage 3", "Stage 4"), strict=True):
        column.markdown(f"**{title}**")
    for choice in choices(space, config):
        key = f"what_if_{choice.field}_{choice.index}"
        st.session_state[key] = choice.value

        def take(key: str = key, field: str = choice.field, index: int = choice.index) -> None:
            now = changed(space, st.session_state["what_if"], field, index, st.session_state[key])
            session.update(change=changes(now, start))

        # A patch embedding stands before a stage: the first one before stage 2.
        at = choice.index + (choice.field == "patch_kernels")
        columns[at].selectbox(f"{choice.label}, stage {at + 1}", choice.options, key=key, on_change=take)
    session.settle()


def _figures(config: FastViTConfig, forecasts: Forecast, run: Snapshot) -> dict[str, Any]:
    """What the run knows of a configuration, and what it predicts where it knows nothing; "from" says which."""
    found: dict[str, Any] = dict(forecasts.guess([config])[0])
    found |= {"latency_from": "predicted", "score_from": "predicted"}
    if (record := known(run.records, config)) is not None:
        if record.latency is not None and record.origin == "measured":
            low, high = record.latency.ci_low_ms, record.latency.ci_high_ms
            found |= {"latency_ms": record.latency_ms, "latency_sd": (high - low) / 3.92, "latency_from": "measured"}
        # On photographs a proxy's score is another thing than what is predicted, the top-1 of whole networks.
        score = record.estimate
        alike = score is not None and (not run.kept.get("unit") or score.source == "posterior")
        if score is not None and alike and record.outcome == "complete":
            found |= {"score": score.value, "score_sd": score.sd or 0.0,
                      "score_from": {"confirmed": "confirmed", "posterior": "all trials together"}.get(
                          score.source, "one run")}
    return found


def _prediction(start: FastViTConfig, config: FastViTConfig, forecasts: Forecast, run: Snapshot) -> None:
    resolution, classes = run.meta.resolution, run.meta.num_classes
    before, after = _figures(start, forecasts, run), _figures(config, forecasts, run)
    old, new = cost(start, resolution, classes), cost(config, resolution, classes)
    latency, score, params, macs = st.columns(4)
    budget = run.meta.budget_ms
    with latency:
        _metric(f"{after['latency_from']} latency", after["latency_ms"], after["latency_sd"], before["latency_ms"],
                " ms", inverse=True)
        if after["latency_ms"] is not None and after["latency_ms"] > budget:
            st.caption(f":material/warning: over the budget of {budget:g} ms")
    with score:
        unit = "estimated top-1" if run.kept.get("unit") else PROXY_SCORE
        _metric(f"{unit}, {after['score_from']}", after["score"], after["score_sd"], before["score"], "")
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
        session.update(change=())
        st.rerun(scope="fragment")
    if tried is not None and config != start:
        right.caption(f"Tried already, as trial {tried.trial}: what it found is shown, not a prediction.")
    elif waits := next((w for w in run.queue if w.words == config.describe()), None):
        right.caption(f"In the queue as trial {waits.trial} ({parts.plain(waits.why)}).")


def send(run: Snapshot, space: SearchSpace, config: FastViTConfig) -> str:
    """Queue a configuration as a trial of the run; what happens next, in a sentence."""
    study = Run.open(run.path).study
    study.enqueue_trial(space.encode(config), user_attrs={"sent_by": "dashboard"}, skip_if_exists=True)
    if run.state == "running":
        return "In the queue: a worker takes it next."
    return f"In the queue. The run is {run.state}; `python search.py resume {run.path} --trials 1` evaluates it."


def _neighbours(config: FastViTConfig, forecasts: Forecast, space: SearchSpace, budget: float) -> None:
    near = space.neighbours(config)
    guesses = forecasts.guess([config, *near])
    rows: list[dict[str, Any]] = [{"change": in_words(other, config), **guess}
                                  for other, guess in zip(near, guesses[1:], strict=True) if guess["score"] is not None]
    if not rows or guesses[0]["score"] is None:
        return
    st.markdown("##### One step away")
    better = [r for r in rows if r["score"] > guesses[0]["score"] and r["latency_ms"] <= budget]
    words = (f"{len(rows)} configurations differ by one step; {len(better)} of them are predicted to score higher "
             f"under {budget:g} ms than the {guesses[0]['score']:.3f} ± {guesses[0]['score_sd']:.3f} that is predicted "
             "for the chosen one itself. Bars are one standard deviation of the prediction.")
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
