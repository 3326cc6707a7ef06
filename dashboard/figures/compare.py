"""The compared configurations on one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dashboard.compare import Column
from dashboard.figures.palette import GREEN, RUNS, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = ("circle", "diamond", "square", "triangle-up")


def compared_figure(columns: Sequence[Column], budget_ms: float, unit: str) -> go.Figure:
    """Latency and score of each measured configuration, with 95 % interval and standard deviation."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for index, column in enumerate(columns):
        record = column.record
        if record is None or record.latency is None or record.origin != "measured" or record.estimate is None:
            continue
        ms, score, sd = record.latency.latency_ms, record.estimate.value, record.estimate.sd
        figure.add_scatter(
            x=[ms], y=[score], mode="markers", name=plain(column.label),
            marker={"size": 13, "color": RUNS[index], "symbol": SYMBOLS[index]},
            error_x={"type": "data", "symmetric": False, "array": [record.latency.ci_high_ms - ms],
                     "arrayminus": [ms - record.latency.ci_low_ms]},
            error_y={"type": "data", "array": [sd or 0.0]},
            hovertemplate="%{x:.3f} ms, score %{y:.3f}<extra>" + plain(column.label) + "</extra>")
    figure.add_vline(x=budget_ms, line={"color": GREEN, "dash": "dash", "width": 1.5})
    figure.add_annotation(x=budget_ms, y=1, yref="paper", yanchor="bottom", showarrow=False,
                          text=f"budget {budget_ms:g} ms", font={"color": GREEN})
    figure.update_layout(xaxis_title="measured latency (ms)", yaxis_title=unit, height=300, showlegend=True,
                         legend={"orientation": "h", "y": 1.12, "x": 0, "yanchor": "bottom"},
                         margin={"t": 40, "r": 10, "b": 10, "l": 10})
    return figure
