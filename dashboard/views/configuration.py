"""Configuration: everything known of one choice."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from dashboard import drawing, session
from dashboard.figures import detail
from dashboard.figures.front import front_rows, refs
from dashboard.load import Snapshot
from dashboard.state import Ref
from dashboard.views import parts, what_if
from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.difference import in_words, nearest_preset
from fastvit.presets import PRESETS
from nas.runs.run import Trial

_CHART = {"displaylogo": False}


def show() -> None:
    runs = session.chosen()
    first = runs[0]
    ref = _chosen(runs, first)
    found = session.resolve(ref, runs)
    if found is None:
        st.info("That trial is not in the chosen runs, or it never got a configuration. Choose another above.")
        return
    config, record = found
    resolution = first.meta.resolution
    _headline(ref, runs, config, record, session.budget(first))
    _architecture(config, resolution)
    if record is not None:
        _measured(next((run for run in runs if run.name == ref.run), first).whole(record))
    _cost(config, resolution, first.meta.num_classes)
    what_if.show(first, config, record)
    with st.expander("The configuration as JSON"):
        parts.code(json.dumps(config.to_dict(), indent=1))


def _chosen(runs: list[Snapshot], first: Snapshot) -> Ref:
    """The choice, from the front, the presets, or any trial by its number."""
    view = session.view()
    rows = front_rows(first.shown, view.replace(x="latency_ms", y="score"), session.budget(first))
    front = [ref for text in refs(rows) if (ref := Ref.parse(text))]
    options = [*front, *(Ref("", name) for name in PRESETS)]
    pick = view.pick or (front[-1] if front else Ref("", "t8"))
    if pick not in options:
        options.insert(0, pick)
    session.update(pick=pick)
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with left:
        session.bound(st.selectbox, "Configuration: the front from fast to slow, then the presets", "pick",
                      options=options, key="configuration_pick", format_func=lambda ref: session.label(ref, runs))
    with right:
        highest = int(first.frame.trial.max()) if len(first.frame) else 0
        session.bound(st.number_input, "Any trial by number", "pick", key="configuration_trial", min_value=0,
                      max_value=highest, step=1, value=min(pick.trial or 0, highest),
                      to=lambda number: Ref(first.name, str(int(number))))
    return pick


def _headline(ref: Ref, runs: list[Snapshot], config: FastViTConfig, record: Trial | None, budget: float) -> None:
    size = cost(config, runs[0].meta.resolution, runs[0].meta.num_classes)
    title, *columns, actions = st.columns([3, 2, 2, 1.5, 1.5, 1.6], vertical_alignment="center")
    with title:
        st.markdown(f"#### {parts.plain(session.label(ref, runs))}")
        near = nearest_preset(config)
        if record is not None and record.reason:
            st.caption(parts.plain(f"{record.outcome.replace('_', ' ')}: {record.reason}"))
    latency, score, params, macs = columns
    if record is not None:
        parts.metrics(record, budget, runs[0].unit, latency, score)
    else:
        latency.metric("latency", "not measured in this run")
    params.metric("parameters", f"{size.params_m:.2f} M")
    macs.metric("GMACs", f"{size.gmacs:.3f}")
    actions.button("Compare", on_click=session.compare, args=(ref,), disabled=ref in session.view().compare,
                   width="stretch", key="configuration_compare")
    if config != PRESETS[near]:
        st.caption(f"From {near.upper()}, the nearest preset: {parts.plain(in_words(config, PRESETS[near]))}.")
    if record is not None and record.confirmed:
        st.success(parts.plain(detail.confirmed_words(record)), icon=":material/verified:")


def _architecture(config: FastViTConfig, resolution: int) -> None:
    st.markdown("##### Architecture")
    parts.picture(drawing.network(config, resolution), "Architecture")
    st.caption(f"{config.describe()}. Each bar is a block, higher with more channels: token mixer above, ConvFFN "
               "below.")
    stage = st.segmented_control("One block of stage", [1, 2, 3, 4], default=3, key="block_stage") or 3
    train, fused = st.columns(2)
    with train, st.container(border=True):
        st.markdown("**While training**")
        parts.picture(drawing.block(config, stage - 1, "train"), "The block while training")
    with fused, st.container(border=True):
        st.markdown("**As deployed**, after reparameterization: the same function, the parallel branches folded")
        parts.picture(drawing.block(config, stage - 1, "fused"), "The block as deployed")


def _measured(record: Trial) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("##### Latency, as measured")
        if record.latency_ms is None:
            st.caption("This trial was not measured.")
        elif record.latency is None or record.origin != "measured":
            st.caption(f"Not measured: predicted at {record.latency_ms:.3f} ms, far over the budget.")
        else:
            words = detail.samples_words(record.latency)
            st.plotly_chart(detail.samples_figure(record.latency), key="samples", config=_CHART, alt=words)
            found, flags = record.latency, ", ".join(record.latency.flags)
            st.caption(parts.plain(f"{words} {found.runtime}, {found.threads} thread, batch {found.batch}, "
                                   f"{found.precision}, {found.measured_at}"
                                   + (f"; flags: {flags}" if flags else "")))
    with right:
        st.markdown("##### Learning curve")
        if record.curve or record.scores:
            words = detail.curve_words(record.scores)
            st.plotly_chart(detail.curve_figure(record.curve, record.scores), key="curve", config=_CHART, alt=words)
            spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record.cost_s.items())
            st.caption(parts.plain(f"{words} Cost of the trial: {spent}."))
        else:
            origin = " It was shipped with the task." if record.score_origin == "shipped" else ""
            st.caption(f"No curve was recorded.{origin}")
    if record.traceback:
        with st.expander("Traceback of the failure"):
            parts.code(record.traceback)


def _cost(config: FastViTConfig, resolution: int, classes: int) -> None:
    st.markdown("##### Where the cost lies")
    size = cost(config, resolution, classes)
    words = detail.shares_words(size)
    st.plotly_chart(detail.shares_figure(size), key="shares", config=_CHART, alt=words)
    st.caption(f"{words} Computed in closed form at {resolution} px.")
    with st.expander("As a table"):
        st.dataframe(pd.DataFrame(detail.stage_shares(size)), hide_index=True, column_config=parts.COLUMNS)
