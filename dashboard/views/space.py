"""Space: which choices matter, how each was tried, and how much of the space is under the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.figures import space as figures
from dashboard.figures.parallel import (
    distributions,
    distributions_figure,
    distributions_words,
    parallel_figure,
    parallel_words,
)
from dashboard.importance import AT_LEAST, Importance, Share, importance, label, places
from dashboard.load import Snapshot
from dashboard.state import TARGETS, Ref
from dashboard.views import parts
from nas.errors import UsageError
from nas.estimate.forecast import latency_predictor
from space import SearchSpace

DRAWS, SEED = 1000, 0
_CHART = {"displaylogo": False}


@st.cache_resource(show_spinner=False, max_entries=16)
def space_of(toml: str) -> SearchSpace:
    """The space of a run.

    Raises:
        UsageError: it is damaged; says how.
    """
    try:
        return SearchSpace.from_toml(toml)
    except ValueError as error:
        raise UsageError(f"the run's space is damaged: {error}") from None


@st.cache_resource(show_spinner="Asking which choices matter", max_entries=32)
def importance_of(version: str, target: str, _run: Snapshot) -> Importance | None:
    return importance(_run.records, space_of(_run.meta.space.toml), target)


@st.cache_resource(show_spinner="Drawing configurations from the space", max_entries=16)
def latencies_of(version: str, _run: Snapshot) -> np.ndarray | None:
    """Latencies of random configurations, predicted from the run's own measurements."""
    model, _ = latency_predictor(_run.meta, _run.records)
    space, rng = space_of(_run.meta.space.toml), np.random.default_rng(SEED)
    return model.predict([space.sample(rng) for _ in range(DRAWS)])[0] if model.ready else None


def show() -> None:
    runs = session.chosen()
    run = runs[0]
    # What is learned here need not follow every single trial of a live run.
    version = f"{run.path}/{len(run.records) // (20 if run.state == 'running' else 1)}"
    try:
        space, budget = space_of(run.meta.space.toml), session.budget(run)
    except UsageError as error:
        st.warning(parts.plain(str(error)))
        return
    st.markdown(f"#### The space {parts.plain(space.name)}: {space.size():.2e} configurations, "
                f"{len(space.feature_names)} choices")
    target = session.bound(st.segmented_control, "What a choice should do", "target", options=list(TARGETS),
                           format_func=TARGETS.get, required=True)
    found = importance_of(version, target, run)
    left, right = st.columns(2, gap="large")
    with left:
        _importance(found)
    with right:
        _choice(run, space, found, budget)
    _share(version, run, space, budget)
    _parallel(run, budget)
    _best(run, space, budget)
    with st.expander("Every choice of the space"):
        rows = [{"choice": label(name), "values": _values(space.choices[field][index])}
                for name, (field, index) in places(space).items()]
        parts.table(pd.DataFrame(rows), "Every choice of the space", rows=True)


def _parallel(run: Snapshot, budget: float) -> None:
    st.markdown("##### All figures beside one another")
    figure = parallel_figure(run.records, run.meta.resolution, run.meta.num_classes)
    if figure is None:
        st.caption("Fewer than two trials are complete.")
        return
    words = parallel_words(run.records, budget)
    st.plotly_chart(figure, key="parallel", config=_CHART, alt=words)
    st.caption(words)


def _best(run: Snapshot, space: SearchSpace, budget: float) -> None:
    st.markdown("##### What the best tenth chose")
    found, count = distributions(run.records, space, budget)
    words = distributions_words(found, count, budget)
    if found:
        st.plotly_chart(distributions_figure(found), key="distributions", config=_CHART, alt=words)
    st.caption(words)


def _values(options: Any) -> str:
    if len(options) > 12 and all(isinstance(option, int) for option in options):
        return f"{options[0]}, {options[1]}, … {options[-1]} ({len(options)} values)"
    return ", ".join(str(option) for option in options)


def _importance(found: Importance | None) -> None:
    st.markdown("##### Which choices matter")
    if found is None:
        st.caption(f"Fewer than {AT_LEAST} different configurations are complete: too few to tell.")
        return
    words = figures.importance_words(found)
    st.plotly_chart(figures.importance_figure(found), key="importance", config=_CHART, alt=words)
    st.caption(words + " Bars: mean and standard error over five folds. Trials were chosen by a search, not at random: "
               "this describes them, and proves no cause.")
    with st.expander("As a table"):
        st.dataframe(pd.DataFrame({"choice": [label(name) for name in found.names], "importance": found.importance,
                                   "± sd": found.sd, "rank correlation": found.towards})
                     .sort_values("importance", ascending=False), hide_index=True)


def _choice(run: Snapshot, space: SearchSpace, found: Importance | None, budget: float) -> None:
    st.markdown("##### One choice")
    where = places(space)
    names = list(where) if found is None else [found.names[i] for i in figures.ranked(found)]
    chosen = session.view().choice if session.view().choice in where else names[0]
    session.bound(st.selectbox, "Choice, the most important first", "choice", options=names, format_func=label,
                  value=chosen)
    field, index = where[chosen]
    words = figures.choice_words(run.records, field, index, chosen, budget)
    figure = figures.choice_figure(run.records, run.name, field, index, chosen, space.choices[field][index], budget,
                                   session.view().pick)
    st.plotly_chart(figure, key="choice_chart", on_select=_clicked, selection_mode="points", config=_CHART, alt=words)
    st.caption(words + " A click on a point makes it the chosen configuration.")


def _clicked() -> None:
    for point in (st.session_state.get("choice_chart") or {}).get("selection", {}).get("points", []):
        data = point.get("customdata")
        text = data[0] if isinstance(data, (list, tuple)) and data else data
        if isinstance(text, str) and (ref := Ref.parse(text)):
            session.pick(ref)


def _share(version: str, run: Snapshot, space: SearchSpace, budget: float) -> None:
    st.markdown("##### How much of it is under the budget")
    found = latencies_of(version, run)
    if found is None:
        st.caption("Too few networks are measured to predict others.")
        return
    share = Share(found, budget)
    words = figures.share_words(share, space.size())
    st.plotly_chart(figures.share_figure(share), key="share", config=_CHART, alt=words)
    st.caption(words + " Predicted from this run's own measurements; move the budget on the Front.")
