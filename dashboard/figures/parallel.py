"""All figures of the trials beside one another, and what the best of them chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.figures.palette import BLUE, GREY
from dashboard.importance import label, places
from fastvit.cost import memory_mb
from nas.runs.run import Trial
from nas.search.front import eligible
from space import SearchSpace

if TYPE_CHECKING:
    import plotly.graph_objects as go

BEST_SHARE, AT_LEAST, MOST_CHOICES, MOST_OPTIONS = 0.1, 5, 8, 4


def parallel_figure(records: Sequence[Trial], resolution: int, num_classes: int) -> go.Figure | None:
    """Parallel coordinates of complete, measured trials, coloured by score; a drag along an axis brushes. None with
    fewer than two trials."""
    import plotly.graph_objects as go

    from nas.latency.phones import predict

    kept = [r for r in records if r.outcome == "complete" and r.origin == "measured" and r.config
            and r.estimate is not None]
    if len(kept) < 2:
        return None
    score = [r.estimate.value for r in kept if r.estimate]
    columns: list[tuple[str, list[Any]]] = [
        ("ms", [r.latency_ms for r in kept]), ("score", score),
        ("M params", [r.params_m for r in kept]), ("GMACs", [r.gmacs for r in kept]),
        ("MB", [memory_mb(r.architecture, resolution, num_classes) for r in kept]),
        ("iPhone ms", [float(ms) for ms in predict([r.architecture for r in kept], "iphone12pro")[0]])]
    figure = go.Figure(go.Parcoords(
        line={"color": score, "colorscale": "Cividis"}, labelangle=-20,
        dimensions=[{"label": name, "values": values} for name, values in columns],
        labelfont={"size": 12}, tickfont={"size": 11}))
    figure.update_layout(height=340, margin={"t": 60, "b": 24, "l": 60, "r": 20})
    return figure


def parallel_words(records: Sequence[Trial], budget_ms: float) -> str:
    under = [r for r in records if eligible(r, budget_ms)]
    return (f"{len(under)} complete trials meet {budget_ms:g} ms. A line is a trial, yellow where the score is high: "
            "measured latency, score, parameters, GMACs, estimated memory, and the latency predicted for an iPhone 12 "
            "Pro at 256 px. A drag along an axis keeps the lines that pass there, a click beside it lets go. "
            "The limits on the Front choose in the same way and stay in the link.")


@dataclass(frozen=True)
class Chosen:
    """How often an option of one choice was taken: among the best trials and among all of them."""

    choice: str
    option: str
    best: float
    every: float


def distributions(records: Sequence[Trial], space: SearchSpace, budget_ms: float
                  ) -> tuple[list[list[Chosen]], int]:
    """For each choice, the one that differs most between best and all first, its options; and how many trials are the
    best: a tenth of those that meet the budget, by score. Nothing with fewer than AT_LEAST of them."""
    under = sorted((r for r in records if eligible(r, budget_ms) and r.config),
                   key=lambda r: -(r.estimate.value if r.estimate else 0.0))
    count = max(AT_LEAST, round(BEST_SHARE * len(under)))
    if len(under) < 2 * AT_LEAST:
        return [], 0
    found = []
    for name, (field, index) in places(space).items():
        taken = [getattr(r.architecture, field)[index] for r in under]
        best, every = Counter(taken[:count]), Counter(taken)
        found.append([Chosen(label(name), f"{option:g}" if isinstance(option, (int, float)) else str(option),
                             best[option] / count, every[option] / len(under)) for option in sorted(every)])
    return sorted(found, key=lambda options: -sum(abs(one.best - one.every) for one in options)), count


def distributions_figure(found: Sequence[Sequence[Chosen]]) -> go.Figure:
    """Shares of the most frequent options of the choices that differ most: bars for the best trials, lines for all."""
    import plotly.graph_objects as go

    rows = [one for options in found[:MOST_CHOICES]
            for one in sorted(options, key=lambda one: -max(one.best, one.every))[:MOST_OPTIONS]]
    names = [f"{one.choice} = {one.option}" for one in rows]
    figure = go.Figure()
    figure.add_bar(y=names, x=[100 * one.best for one in rows], orientation="h", name="best tenth",
                   marker={"color": BLUE}, hovertemplate="%{y}: %{x:.0f} %<extra>best tenth</extra>")
    figure.add_scatter(y=names, x=[100 * one.every for one in rows], mode="markers", name="all under the budget",
                       marker={"color": GREY, "symbol": "line-ns-open", "size": 12, "line": {"width": 3}},
                       hovertemplate="%{y}: %{x:.0f} %<extra>all</extra>")
    figure.update_layout(height=80 + 17 * len(rows), xaxis_title="percent of the trials",
                         yaxis={"autorange": "reversed", "tickfont": {"size": 11}, "tickmode": "linear"},
                         margin={"t": 10, "r": 10, "b": 10, "l": 10},
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure


def distributions_words(found: Sequence[Sequence[Chosen]], count: int, budget_ms: float) -> str:
    """The choices that the best take otherwise than the rest, in words."""
    if not found:
        return f"Too few trials meet {budget_ms:g} ms to tell what the best of them chose."
    said = []
    for options in found[:3]:
        most = max(options, key=lambda one: one.best - one.every)
        said.append(f"{most.choice} = {most.option} ({100 * most.best:.0f} % against {100 * most.every:.0f} %)")
    doubt = 100 * float(np.sqrt(0.25 / count))
    return (f"Of the {count} best under {budget_ms:g} ms, compared with all there: {'; '.join(said)}. With so few, a "
            f"share is known to ± {doubt:.0f} % at best.")
