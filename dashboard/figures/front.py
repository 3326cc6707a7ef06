"""The front: cost against score, and how its hypervolume grew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.figures.palette import (
    GREEN,
    GREY,
    MANY,
    ORANGE,
    OUTCOMES,
    RUNS,
    VERMILION,
    log_range,
    log_ticks,
    plain,
)
from dashboard.state import EXTRAS, X_AXES, Y_AXES, View
from nas.front import hypervolume, pareto

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that may stand on a front: complete, scored and measured; presets included, other anchors not."""
    return frame[(frame.outcome == "complete") & frame.score.notna() & (frame.origin == "measured")
                 & frame.anchor.isna()]


def front_rows(frame: pd.DataFrame, view: View, budget_ms: float) -> pd.DataFrame:
    """The rows of one run that none dominates on the chosen axes, among those under the budget beyond doubt.

    Once configurations are confirmed they are the front; a single lucky run beside them is no news (nas.run).
    """
    under = candidates(frame)
    under = under[under.ci_high_ms <= budget_ms]
    confirmed = under.confirmed.astype(bool)
    if (confirmed & under.preset.isna()).any():
        under = under[confirmed]
    return under.iloc[pareto(under[view.x].to_numpy(float), under[view.y].to_numpy(float))]


def refs(rows: pd.DataFrame) -> list[str]:
    return [f"{run}:{trial}" for run, trial in zip(rows.run, rows.trial, strict=True)]


def hover(rows: pd.DataFrame) -> list[str]:
    """Each row in words, a line a thought."""
    return ["<br>".join(_lines(row)) for row in rows.to_dict("records")]


def _known(value: Any) -> bool:
    return value is not None and value == value


def _lines(row: dict[Any, Any]) -> Iterator[str]:
    name = f"<b>trial {row['trial']}</b>"
    if isinstance(row["preset"], str):
        name = f"<b>{plain(row['preset']).upper()}</b>, trial {row['trial']}"
    yield name + (" · confirmed" if row["confirmed"] else "")
    yield plain(row["words"]).replace(", ", "<br>")
    if _known(row["latency_ms"]):
        interval = f" [{row['ci_low_ms']:.3f}, {row['ci_high_ms']:.3f}]" if _known(row["ci_low_ms"]) else ""
        yield f"{row['latency_ms']:.3f} ms{interval}, {plain(row['origin'])}"
    if _known(row["score"]):
        yield f"score {row['score']:.3f}" + (f" ± {row['score_sd']:.3f}" if _known(row["score_sd"]) else "")
    if _known(row["params_m"]):
        yield f"{row['params_m']:.2f} M parameters, {row['gmacs']:.3f} GMACs"
    if isinstance(row["reason"], str):
        yield plain(row["reason"][:120])


def _scatter(figure: go.Figure, rows: pd.DataFrame, x: Any, y: Any, **style: Any) -> None:
    """One trace of points; every point carries its reference, which is how a click is understood."""
    import plotly.graph_objects as go

    kind = go.Scattergl if len(rows) > MANY else go.Scatter
    figure.add_trace(kind(x=x, y=y, customdata=refs(rows), hovertext=hover(rows) if len(rows) <= 3 * MANY else None,
                          hoverinfo="text" if len(rows) <= 3 * MANY else "x+y", **{"mode": "markers"} | style))


def front_figure(frames: Mapping[str, pd.DataFrame], view: View, budget_ms: float, *,
                 published: pd.DataFrame | None = None) -> go.Figure:
    """Cost against score for one run, or for several that may share axes; the first is in focus.

    `frames` hold the columns of nas.run.TrialRecord.row() and `run`. Trials without a score stand on a strip
    under the chart's floor; trials whose latency was only predicted are not drawn on the measured axis.
    """
    import pandas as pd
    import plotly.graph_objects as go

    figure = go.Figure()
    everything = pd.concat(frames.values(), ignore_index=True)
    scored = candidates(everything)
    scores = scored[view.y].dropna()
    floor = float(scores.min() - 0.06 * (scores.max() - scores.min() or 1)) if len(scores) else 0.0
    on_axis = everything[everything.origin.eq("measured") & everything[view.x].notna()]

    _scatter(figure, rows := scored[scored.preset.isna()], rows[view.x], rows[view.y], name="trials",
             marker={"color": GREY, "size": 7 if len(rows) < MANY else 5, "opacity": 0.55})
    for outcome in ("stopped_early", "over_budget", "failed"):
        if outcome in view.show:
            rows = on_axis[(on_axis.outcome == outcome) & on_axis.preset.isna()]
            colour, symbol = OUTCOMES[outcome]
            y = rows[view.y].fillna(floor).clip(lower=floor)
            _scatter(figure, rows, rows[view.x], y, name=EXTRAS[outcome],
                     marker={"color": colour, "size": 9, "symbol": symbol, "line": {"width": 1.6, "color": colour}})
    for index, (name, frame) in enumerate(frames.items()):
        _front_line(figure, front_rows(frame, view, budget_ms), view, RUNS[index % len(RUNS)],
                    "front" if len(frames) == 1 else f"front of {plain(name)}")
    anchors = on_axis[on_axis.preset.notna() & on_axis[view.y].notna() & (on_axis.run == next(iter(frames)))]
    _scatter(figure, anchors, anchors[view.x], anchors[view.y], mode="markers+text", name="presets, measured here",
             text=[plain(name).upper() for name in anchors.preset], textposition="bottom center",
             marker={"color": ORANGE, "size": 11, "symbol": "diamond"})
    if published is not None and view.x == "phone_ms":
        figure.add_scatter(x=published.latency_ms, y=published.top1, mode="markers", name="published")
    _picked(figure, everything, view, floor)
    xs = [*on_axis[view.x][on_axis.outcome.isin(["complete", *view.show]) & on_axis[view.y].notna()], *anchors[view.x]]
    if view.x == "latency_ms":
        xs.append(budget_ms)
        figure.add_vline(x=budget_ms, line={"color": GREEN, "dash": "dash", "width": 1.5})
        figure.add_vrect(x0=budget_ms, x1=max(xs) * 2, fillcolor=GREY, opacity=0.07, line_width=0, layer="below")
        figure.add_annotation(x=np.log10(budget_ms) if view.log else budget_ms, y=1, yref="paper", yanchor="bottom",
                              showarrow=False, text=f"budget {budget_ms:g} ms", font={"color": GREEN})
    figure.update_layout(
        xaxis=_axis(X_AXES[view.x], xs, view.log), yaxis={"title": Y_AXES[view.y], "zeroline": False},
        legend={"orientation": "h", "y": 1.06, "x": 0, "yanchor": "bottom"},
        margin={"t": 30, "r": 10, "b": 10, "l": 10},
        height=520, hovermode="closest", clickmode="event+select", dragmode="zoom",
        uirevision=f"{'/'.join(frames)} {view.x} {view.y} {view.log}")
    return figure


def _axis(title: str, values: Sequence[float], log: bool) -> dict[str, Any]:
    reach = log_range(values) if log else None
    if reach is None:
        return {"title": title, "zeroline": False, "rangemode": "normal"}
    ticks = log_ticks(10 ** reach[0], 10 ** reach[1])
    return {"title": title + ", log scale", "type": "log", "range": reach, "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks]}


def _front_line(figure: go.Figure, rows: pd.DataFrame, view: View, colour: str, name: str) -> None:
    if not len(rows):
        return
    figure.add_scatter(x=rows[view.x], y=rows[view.y], mode="lines", name=f"{name}, steps",
                       showlegend=False, hoverinfo="skip", line={"color": colour, "shape": "hv", "width": 2})
    for confirmed, label in ((False, name), (True, f"{name}, confirmed")):
        part = rows[rows.confirmed.astype(bool) == confirmed]
        if not len(part):
            continue
        errors: dict[str, Any] = {"error_y": {"type": "data", "array": part.score_sd.fillna(0), "thickness": 1,
                                              "width": 2}}
        if view.x == "latency_ms":
            errors["error_x"] = {"type": "data", "symmetric": False, "thickness": 1, "width": 2,
                                 "array": part.ci_high_ms - part.latency_ms,
                                 "arrayminus": part.latency_ms - part.ci_low_ms}
        _scatter(figure, part, part[view.x], part[view.y], name=label, **errors,
                 marker={"color": colour, "size": 11, "symbol": "circle" if confirmed else "circle-open",
                         "line": {"width": 2.2}})


def _picked(figure: go.Figure, frame: pd.DataFrame, view: View, floor: float) -> None:
    """A ring around the choice, drawn as its own trace: a selection of plotly's would be lost with new data."""
    if view.pick is None:
        return
    if view.pick.run:
        row = frame[(frame.run == view.pick.run) & (frame.trial == view.pick.trial)]
    else:
        row = frame[frame.preset == view.pick.name].head(1)
    if len(row) and row[view.x].notna().all() and row.origin.eq("measured").all():
        figure.add_scatter(x=row[view.x], y=row[view.y].fillna(floor).clip(lower=floor), mode="markers", name="chosen",
                           hoverinfo="skip", marker={"symbol": "circle-open", "size": 22, "color": VERMILION,
                                                     "line": {"width": 3}})


def growth(frame: pd.DataFrame, budget_ms: float, score_floor: float = 0.0) -> pd.DataFrame:
    """Hypervolume under the budget after each trial: columns trial, minutes since the first, hypervolume."""
    import pandas as pd

    kept = frame[frame.preset.isna() & frame.anchor.isna()]
    usable = kept.index.isin(candidates(kept).index) & (kept.ci_high_ms <= budget_ms)
    ms, score = kept.latency_ms.to_numpy(float), kept.score.to_numpy(float)
    value, values = 0.0, []
    front: list[int] = []
    for index, use in enumerate(usable):
        if use and not any(ms[i] <= ms[index] and score[i] >= score[index] for i in front):
            front = [i for i in front if not (ms[i] >= ms[index] and score[i] <= score[index])] + [index]
            value = hypervolume(ms[front], score[front], budget_ms=budget_ms, score_floor=score_floor)
        values.append(value)
    since = (pd.to_datetime(kept.finished) - pd.to_datetime(frame.started).min()).dt.total_seconds() / 60
    return pd.DataFrame({"trial": range(1, len(kept) + 1), "minutes": since.to_numpy(), "hypervolume": values})


def growth_figure(frames: Mapping[str, pd.DataFrame], budget_ms: float, *, over: str = "trial",
                  score_floor: float = 0.0) -> go.Figure:
    """Hypervolume of each run over its trials, or over `minutes`. Presets are left out: they were not found."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for index, (name, frame) in enumerate(frames.items()):
        rows = growth(frame, budget_ms, score_floor).dropna()
        figure.add_scatter(x=rows[over], y=rows.hypervolume, mode="lines", name=plain(name),
                           line={"shape": "hv", "color": RUNS[index % len(RUNS)], "width": 2})
    figure.update_layout(
        xaxis_title={"trial": "trials", "minutes": "minutes since the run began"}[over], height=300,
        yaxis_title="hypervolume", showlegend=len(frames) > 1, margin={"t": 10, "r": 10, "b": 10, "l": 10},
        yaxis_rangemode="tozero")
    return figure


def in_words(frame: pd.DataFrame, view: View, budget_ms: float) -> str:
    """What the chart says, in a sentence or two: its text alternative, and the page's first line."""
    rows = front_rows(frame, view.replace(x="latency_ms", y="score"), budget_ms)
    if not len(rows):
        return f"No complete trial is under {budget_ms:g} ms."
    best = rows.iloc[-1]
    name = str(best.preset).upper() if isinstance(best.preset, str) else f"trial {best.trial}"
    text = (f"{len(rows)} configuration{'s' if len(rows) > 1 else ''} on the front under {budget_ms:g} ms. The best "
            f"score is {best.score:.3f}, {name} at {best.latency_ms:.3f} ms")
    under = candidates(frame)
    presets = under[under.preset.notna() & (under.ci_high_ms <= budget_ms)].sort_values("score")
    if len(presets):
        top = presets.iloc[-1]
        if top.trial != best.trial:
            text += (f"; the best preset under the budget, {str(top.preset).upper()}, has {top.score:.3f} "
                     f"at {top.latency_ms:.3f} ms")
        return text + "."
    return text + "; no preset meets the budget."


