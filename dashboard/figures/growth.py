"""How the hypervolume of a run grew, over its trials and over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dashboard.figures.front import candidates
from dashboard.figures.palette import RUNS, plain
from dashboard.state import OVER
from nas.runs.budget import meets_budget
from nas.search.pareto import hypervolume

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def growth(frame: pd.DataFrame, budget_ms: float) -> pd.DataFrame:
    """Hypervolume of the front under the budget after each trial, as nas.search.front.front_volume defines it
    and with what is known of each trial by now: columns trial, minutes since the first, hypervolume."""
    import pandas as pd

    kept = frame[frame.anchor.isna()]
    usable = kept.index.isin(candidates(kept).index) & meets_budget(kept.ci_high_ms, budget_ms)
    ms, score = kept.latency_ms.to_numpy(float), kept.score.to_numpy(float)
    value, values = 0.0, []
    front: list[int] = []
    for index, use in enumerate(usable):
        if use and not any(ms[i] <= ms[index] and score[i] >= score[index] for i in front):
            front = [i for i in front if not (ms[i] >= ms[index] and score[i] <= score[index])] + [index]
            value = hypervolume(ms[front], score[front], budget_ms=budget_ms)
        values.append(value)
    since = (pd.to_datetime(kept.finished) - pd.to_datetime(frame.started).min()).dt.total_seconds() / 60
    return pd.DataFrame({"trial": range(1, len(kept) + 1), "minutes": since.to_numpy(), "hypervolume": values})


def growth_figure(grown: Mapping[str, pd.DataFrame], *, over: str = "trial") -> go.Figure:
    """Hypervolume of each run (its `growth`) over its trials, or over `minutes`."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for index, (name, rows) in enumerate(grown.items()):
        rows = rows.dropna()
        rows = rows[rows.hypervolume > 0]
        # Steps alone: where nothing changed there is nothing to draw.
        edge = rows.hypervolume.ne(rows.hypervolume.shift()) | (rows.index == (rows.index[-1] if len(rows) else 0))
        figure.add_scatter(x=rows[over][edge], y=rows.hypervolume[edge], mode="lines", name=plain(name),
                           line={"shape": "hv", "color": RUNS[index % len(RUNS)], "width": 2})
    figure.update_layout(
        xaxis_title=OVER[over], height=300,
        # Fixed margins where nothing else stands at the edge: plotly would draw everything twice to find them.
        yaxis_title="hypervolume", showlegend=len(grown) > 1,
        margin={"t": 10, "r": 10, "b": 55, "l": 70, "autoexpand": len(grown) > 1},
        yaxis_rangemode="normal")
    return figure
