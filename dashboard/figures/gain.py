"""What a little more time buys, along the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboard.figures.palette import BLUE, VERMILION
from nas.report.recommendation import MORE, SURE, Recommendation

if TYPE_CHECKING:
    import plotly.graph_objects as go


def gain_figure(found: Recommendation) -> go.Figure:
    """The score that a tenth more time buys over latency, with two standard deviations, and the pick's place on it."""
    import plotly.graph_objects as go

    ms, gain = [g.latency_ms for g in found.more], [g.score for g in found.more]
    low, high = ([g.score + side * SURE * g.score_sd for g in found.more] for side in (-1, 1))
    figure = go.Figure()
    figure.add_scatter(x=[*ms, *ms[::-1]], y=[*high, *low[::-1]], mode="lines",
                       fill="toself", fillcolor="rgba(0,114,178,0.18)",
                       line={"width": 0}, hoverinfo="skip", name="two standard deviations")
    figure.add_scatter(x=ms, y=gain, mode="lines+markers", line={"color": BLUE, "width": 2}, marker={"size": 6},
                       name="gain", hovertemplate="%{x:.3g} ms: %{y:+.3f}<extra></extra>")
    figure.add_hline(y=0, line={"width": 1, "dash": "dot"})
    figure.add_vline(x=found.pick.latency_ms, line={"color": VERMILION, "width": 1.5})
    figure.add_annotation(x=found.pick.latency_ms, y=1, yref="paper", yanchor="bottom", showarrow=False,
                          text="the pick", font={"color": VERMILION})
    figure.update_layout(xaxis_title="measured latency (ms)", yaxis_title=f"score for {100 * MORE:.0f} % more time",
                         height=230, showlegend=False, margin={"t": 24, "r": 10, "b": 10, "l": 10})
    return figure
