"""Charts of the space: which choices matter, how each was tried, how much of it is under the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.figures.palette import BLUE, GREEN, GREY, ORANGE, VERMILION, log_ticks
from dashboard.figures.thin import thinned
from dashboard.importance import Importance, Share, label, value_of
from dashboard.state import TARGETS, Ref
from nas.runs.run import Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARGIN = {"t": 30, "r": 10, "b": 10, "l": 10}
SHOWN = 14


def ranked(found: Importance) -> list[int]:
    return [int(i) for i in np.argsort(-found.importance)]


def importance_figure(found: Importance) -> go.Figure:
    """The choices that matter most, as bars; colour and hatching say which way is better."""
    import plotly.graph_objects as go

    order = ranked(found)[:SHOWN]
    figure = go.Figure()
    for more, name, colour, pattern in ((True, "more (or attention) is better", BLUE, ""),
                                        (False, "less (or RepMixer) is better", ORANGE, "/")):
        part = [i for i in order if (found.towards[i] >= 0) == more]
        if part:
            figure.add_bar(y=[label(found.names[i]) for i in part], x=[max(found.importance[i], 0.0) for i in part],
                           orientation="h", name=name, marker={"color": colour, "pattern": {"shape": pattern}},
                           error_x={"type": "data", "array": [found.sd[i] for i in part], "thickness": 1},
                           hovertext=[found.ways[i] for i in part],
                           hovertemplate="%{y}: %{x:.3f}<extra>%{hovertext}</extra>")
    figure.update_layout(
        xaxis_title="variance lost when shuffled (share)", height=90 + 24 * len(order),
        margin=_MARGIN, barmode="overlay", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        yaxis={"categoryorder": "array", "categoryarray": [label(found.names[i]) for i in reversed(order)]})
    return figure


def importance_words(found: Importance) -> str:
    order = [i for i in ranked(found) if found.importance[i] > 2 * found.sd[i] and found.importance[i] > 0.005]
    basis = (f"Boosted trees on {found.trials} complete trials explain {100 * max(found.r2, 0):.0f} % of "
             f"{TARGETS[found.target]} on trials they have not seen.")
    if found.r2 < 0.1:
        return basis + " That is too little to call any choice important."
    if not order:
        return basis + " No single choice stands out."
    ways = [f"{label(found.names[i])} ({found.ways[i]})" for i in order[:3]]
    return f"{basis} What matters most: {'; '.join(ways)}."


def choice_figure(records: Sequence[Trial], run: str, field: str, index: int, name: str, options: Sequence[Any],
                  budget_ms: float, pick: Ref | None = None) -> go.Figure:
    """Score by one choice: a box and points for each value tried, those over the budget apart."""
    import plotly.graph_objects as go

    figure = go.Figure()
    kept = [r for r in records if r.outcome == "complete" and r.config and r.estimate is not None
            and r.origin == "measured"]
    values = [value_of(r.architecture, field, index) for r in kept]
    over = np.array([not r.meets_budget(budget_ms) for r in kept], bool)
    score = np.array([r.estimate.value if r.estimate else np.nan for r in kept], float)
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(kept))
    known = [*options, None] if None in values else list(options)
    ticks = ["none" if option is None else str(option) for option in known]
    at = np.array([known.index(value) if value in known else -1 for value in values], float)
    for mask, colour, symbol, words in ((~over, BLUE, "circle", "under the budget"),
                                        (over, VERMILION, "triangle-right-open", "over it, or not beyond doubt")):
        places = np.flatnonzero(mask & (at >= 0))
        if len(places):
            places = places[thinned(at[places] + jitter[places], score[places])]
            figure.add_scatter(x=at[places] + jitter[places], y=score[places], mode="markers", name=words,
                               marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.7},
                               customdata=[f"{run}:{kept[i].trial}" for i in places],
                               hovertext=[f"trial {kept[i].trial}" for i in places],
                               hovertemplate="%{hovertext}<br>score %{y:.3f}<extra></extra>")
    medians = [(i, float(np.median(score[(at == i) & ~over]))) for i in range(len(ticks)) if ((at == i) & ~over).any()]
    for i, median in medians:
        figure.add_shape(type="line", x0=i - 0.35, x1=i + 0.35, y0=median, y1=median,
                         line={"color": GREEN, "width": 3})
    if pick is not None and pick.run == run:
        chosen = [i for i, r in enumerate(kept) if r.trial == pick.trial]
        figure.add_scatter(x=at[chosen] + jitter[chosen], y=score[chosen], mode="markers", name="chosen",
                           hoverinfo="skip", marker={"symbol": "circle-open", "size": 18, "color": VERMILION,
                                                     "line": {"width": 3}})
    figure.update_layout(height=400, margin=_MARGIN, yaxis_title="proxy score", clickmode="event+select",
                         xaxis={"title": label(name), "tickvals": list(range(len(ticks))), "ticktext": ticks},
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure


def choice_words(records: Sequence[Trial], field: str, index: int, name: str, budget_ms: float) -> str:
    """The medians under the budget by value, and how often each was tried."""
    by: dict[Any, list[float]] = {}
    for r in records:
        if (r.outcome == "complete" and r.config and r.estimate is not None
                and r.meets_budget(budget_ms)):
            by.setdefault(value_of(r.config, field, index), []).append(r.estimate.value)
    if not by:
        return f"No complete trial is under {budget_ms:g} ms."
    best = max(by, key=lambda value: (len(by[value]) >= 3, float(np.median(by[value]))))
    return (f"Green lines: median score under {budget_ms:g} ms. It is highest with {label(name)} = {best}: "
            f"{np.median(by[best]):.3f} over {len(by[best])} trials; {len(by)} values were tried.")


def share_figure(share: Share) -> go.Figure:
    """Predicted latencies of random configurations; what is under the budget in its own colour."""
    import plotly.graph_objects as go

    logs = np.log10(share.latencies)
    edges = np.linspace(logs.min(), logs.max() + 1e-9, 41)
    if 10 ** edges[0] < share.budget_ms < 10 ** edges[-1]:
        edges = np.union1d(edges, [np.log10(share.budget_ms)])  # no bar on both sides of the budget
    counts, _ = np.histogram(logs, edges)
    # In bars of unequal width the height is what counts: percent for each fortieth of the axis.
    density = 100 * counts / len(logs) / np.diff(edges) * (edges[-1] - edges[0]) / 40
    middle, width = (10 ** edges[:-1] + 10 ** edges[1:]) / 2, np.diff(10**edges)
    ticks = log_ticks(10 ** edges[0], 10 ** edges[-1])
    under = middle <= share.budget_ms
    figure = go.Figure()
    for mask, colour, words in ((under, BLUE, "under the budget"), (~under, GREY, "over it")):
        if mask.any():
            figure.add_bar(x=middle[mask], y=density[mask], width=width[mask], name=words,
                           marker={"color": colour, "line": {"width": 0}},
                           hovertemplate="about %{x:.2f} ms: %{y:.1f} %<extra></extra>")
    figure.add_vline(x=share.budget_ms, line={"color": GREEN, "dash": "dash", "width": 1.5})
    figure.update_layout(
        height=300, margin=_MARGIN, bargap=0, yaxis_title="percent of the space",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis={"type": "log", "title": "predicted latency (ms, log scale)",
               "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]})
    return figure


def share_words(share: Share, size: int) -> str:
    ms = share.latencies
    return (f"{100 * share.share:.0f} ± {100 * share.error:.0f} % of the space's {size:.2e} configurations are "
            f"predicted under {share.budget_ms:g} ms, judged by {len(ms):,} random ones: from {ms.min():.2g} ms over "
            f"a median of {np.median(ms):.2g} ms to {ms.max():.2g} ms.")
