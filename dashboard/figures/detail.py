"""Charts of one configuration: its latency samples, its learning curve, where its cost lies, what is beside it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dashboard.figures.palette import BLUE, GREEN, GREY, ORANGE, STAGES, VERMILION
from fastvit.cost import Cost
from nas.runs.measurement import Measurement
from nas.runs.trial import Rung, Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

CONTAMINATED = 0.02  # share of a block, as nas.latency.warm has it
_MARGIN = {"t": 10, "r": 10, "b": 10, "l": 10}


def samples(latency: Measurement) -> tuple[list[float], list[bool]]:
    """The raw blocks of a measurement in ms, and which of them had to wait for a core."""
    trial, waited = latency.samples.get("trial_ms", []), latency.samples.get("waited", [])
    return trial, [share > CONTAMINATED for share in waited] or [False] * len(trial)


def samples_figure(latency: Measurement) -> go.Figure:
    """Latency samples in the order of measurement, those that count apart from those that had to wait for a core, with
    the estimate and its 95 % interval; the strip at the right is their distribution."""
    import plotly.graph_objects as go

    trial, waited = samples(latency)
    figure = go.Figure()
    for disturbed, name, color in ((False, "blocks", BLUE), (True, "blocks that waited for a core", ORANGE)):
        chosen = [(order, ms) for order, (ms, late) in enumerate(zip(trial, waited, strict=False), 1)
                  if late == disturbed]
        if chosen:
            figure.add_scatter(x=[order for order, _ in chosen], y=[ms for _, ms in chosen], mode="markers", name=name,
                               marker={"size": 7, "color": color})
    if trial:
        figure.add_box(y=trial, name="distribution", xaxis="x2", marker={"color": BLUE}, boxpoints=False,
                       showlegend=False, hoverinfo="y")
    figure.add_hrect(y0=latency.ci_low_ms, y1=latency.ci_high_ms, fillcolor=BLUE, opacity=0.18, line_width=0)
    figure.add_hline(y=latency.latency_ms, line={"color": GREEN, "width": 1.5})
    figure.update_layout(xaxis={"title": "block of inferences", "domain": [0, 0.86]},
                         xaxis2={"domain": [0.88, 1], "showticklabels": False}, yaxis_title="latency (ms)", height=300,
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}, margin=_MARGIN)
    return figure


def samples_words(latency: Measurement) -> str:
    trial, waited = samples(latency)
    text = f"{latency.latency_ms:.3f} ms, 95 % interval {latency.ci_low_ms:.3f} to {latency.ci_high_ms:.3f} ms"
    if latency.sessions > 1:
        text += f", from {latency.sessions} sessions; the last"
    if trial:
        text += f"{',' if latency.sessions == 1 else ''} from {len(trial)} blocks of inferences"
    if any(waited):
        text += f", {sum(waited)} of which waited for a core and count less"
    if latency.reference_ms:
        text += f"; T8 took {latency.reference_ms:.3f} ms beside them"
    if latency.others > 0.05:
        text += f", while other processes took {100 * latency.others:.0f} % of the machine"
    return text + "."


def curve_figure(curve: Sequence[Any], scores: Sequence[Rung]) -> go.Figure:
    """Training loss by step, and the score at each rung on a second axis."""
    import plotly.graph_objects as go

    figure = go.Figure()
    if curve:
        figure.add_scatter(x=[p[0] for p in curve], y=[p[1] for p in curve], mode="lines", name="training loss",
                           line={"color": GREY, "width": 1.5})
    if scores:
        figure.add_scatter(x=[s.step for s in scores], y=[s.score for s in scores], mode="lines+markers",
                           name="score at a rung", yaxis="y2", line={"color": BLUE, "width": 2},
                           marker={"size": 9, "symbol": "square"})
    figure.update_layout(xaxis_title="training step", yaxis={"title": "training loss", "rangemode": "normal"},
                         yaxis2={"title": "proxy score", "overlaying": "y", "side": "right", "showgrid": False,
                                 "tickmode": "auto", "zeroline": False},
                         height=300, margin=_MARGIN, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure


def curve_words(scores: Sequence[Rung]) -> str:
    rungs = ", ".join(f"{s.score:.3f} at step {s.step}" for s in scores)
    return f"Score {rungs}." if rungs else "No score was recorded."


def confirmed_words(record: Trial) -> str:
    """What confirming found, and how far it moved from the run that the search saw."""
    found = record.confirmed
    if found is None:
        return "Not confirmed."
    runs = [run.score for run in found.runs]
    text = f"Confirmed by {len(runs)} seeds: score {found.score:.3f} ± {found.score_sd:.3f}"
    text += f" ({', '.join(f'{score:.3f}' for score in runs)}); the search's own run said {record.score or 0:.3f}."
    before = found.latency_before
    if before is not None and record.latency_ms and before != record.latency:
        text += f" All sessions together: {record.latency_ms:.3f} ms, {before.latency_ms:.3f} by the first."
    return text


def stage_shares(cost: Cost) -> list[dict[str, Any]]:
    """Cost by stage in percent: rows of part, params_m, gmacs, activations_m."""
    last = max(part.stage for part in cost.blocks)
    names = ("stem", *(f"stage {stage}" for stage in range(1, last)), "head")
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for part in cost.blocks:
        for index, value in enumerate((part.params_m, part.gmacs, part.activations_m)):
            sums[part.stage][index] += part.count * value
    return [{"part": names[stage], "params_m": p, "gmacs": g, "activations_m": a}
            for stage, (p, g, a) in sorted(sums.items())]


def shares_figure(cost: Cost) -> go.Figure:
    """Where parameters, multiply-accumulates and activations lie, in percent of the fused network."""
    import plotly.graph_objects as go

    rows = stage_shares(cost)
    totals = {"parameters": ("params_m", cost.params_m), "GMACs": ("gmacs", cost.gmacs),
              "activations": ("activations_m", cost.activations_m)}
    figure = go.Figure()
    for row, colour in zip(rows, itertools.cycle(STAGES), strict=False):
        share = [100 * row[key] / total for key, total in totals.values()]
        figure.add_bar(y=list(totals), x=share, name=row["part"], orientation="h", marker={"color": colour},
                       text=[f"{row['part']}<br>{value:.0f} %" if value >= 9 else "" for value in share],
                       textposition="inside", insidetextanchor="middle", textfont={"color": "white"},
                       hovertemplate="%{y}: %{x:.1f} %<extra>" + row["part"] + "</extra>")
    figure.update_layout(barmode="stack", xaxis_title="percent of the fused network", height=250, margin=_MARGIN,
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
                         yaxis={"autorange": "reversed"})
    return figure


def shares_words(cost: Cost) -> str:
    rows = stage_shares(cost)
    top = max(rows, key=lambda row: row["gmacs"])
    heavy = max(rows, key=lambda row: row["params_m"])
    return (f"{cost.params_m:.2f} M parameters, {cost.gmacs:.3f} GMACs, {cost.activations_m:.2f} M activations. "
            f"Most GMACs lie in {top['part']} ({100 * top['gmacs'] / cost.gmacs:.0f} %), most parameters in "
            f"{heavy['part']} ({100 * heavy['params_m'] / cost.params_m:.0f} %).")


def neighbours_figure(rows: Sequence[dict[str, Any]], here: dict[str, Any], budget_ms: float) -> go.Figure:
    """Configurations one step away at their predicted latency and size, around the configuration itself."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[r["latency_ms"] for r in rows], y=[r["score"] for r in rows], mode="markers",
                       name="one step away, predicted", marker={"color": GREY, "size": 8, "symbol": "circle-open"},
                       text=[r["change"] for r in rows],
                       error_x={"type": "data", "array": [r["latency_sd"] for r in rows], "thickness": 0.6, "width": 0},
                       error_y={"type": "data", "array": [r["score_sd"] for r in rows], "thickness": 0.6, "width": 0},
                       hovertemplate="%{text}<br>%{x:.3f} ms, score %{y:.3f}, both predicted<extra></extra>")
    figure.add_scatter(x=[here["latency_ms"]], y=[here["score"]], mode="markers", name="this one, predicted",
                       marker={"color": VERMILION, "size": 13, "symbol": "star"}, hoverinfo="x+y")
    figure.add_vline(x=budget_ms, line={"color": GREEN, "dash": "dash", "width": 1.5})
    figure.update_layout(xaxis_title="predicted latency (ms)", yaxis_title="predicted proxy score", height=360,
                         margin=_MARGIN, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure
