"""The front: cost against score, and how its hypervolume grew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.figures.palette import (
    GREEN,
    GREY,
    ORANGE,
    OUTCOMES,
    PURPLE,
    RUNS,
    VERMILION,
    log_range,
    log_ticks,
    plain,
)
from dashboard.figures.published import published
from dashboard.figures.thin import MANY, thinned
from dashboard.state import EXTRAS, X_AXES, Y_AXES, View
from nas.runs.budget import meets_budget
from nas.search.pareto import pareto

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


FROM = {"trained": ", trained at full width", "confirmed": ", of further seeds",
        "posterior": ", from all trials together", "run": ", one run"}


def _eligible(frame: pd.DataFrame) -> np.ndarray:
    return ((frame.outcome == "complete") & frame.score.notna() & (frame.origin == "measured")
            & frame.anchor.isna()).to_numpy(bool)


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that may stand on a front: complete, scored and measured; presets included, other anchors not."""
    return frame[_eligible(frame)]


def front_rows(frame: pd.DataFrame, view: View, budget_ms: float) -> pd.DataFrame:
    """The rows of one run that none dominates on the chosen axes, among those under the budget beyond doubt."""
    meets = frame.meets.to_numpy(bool) if "meets" in frame else np.ones(len(frame), bool)
    under = np.flatnonzero(_eligible(frame) & meets & meets_budget(frame.ci_high_ms.to_numpy(float), budget_ms))
    best = pareto(frame[view.x].to_numpy(float)[under], frame[view.y].to_numpy(float)[under])
    return frame.iloc[under[best]]


def refs(rows: pd.DataFrame) -> list[str]:
    return [f"{run}:{trial}" for run, trial in zip(rows.run, rows.trial, strict=True)]


def hover(rows: pd.DataFrame) -> list[str]:
    """Each row in words, a line a thought."""
    return ["<br>".join(_lines(row)) for row in rows.to_dict("records")]


def _known(value: Any) -> bool:
    return value is not None and value == value


def _lines(row: dict[Any, Any]) -> Iterator[str]:
    name = f"<b>{plain(row['anchor']) if isinstance(row['anchor'], str) else 'trial ' + str(row['trial'])}</b>"
    if isinstance(row["preset"], str):
        name = f"<b>{plain(row['preset']).upper()}</b>, trial {row['trial']}"
    yield name + (" · confirmed" if row["confirmed"] else "")
    yield plain(row["words"]).replace(", ", "<br>")
    if _known(row["latency_ms"]):
        interval = f" [{row['ci_low_ms']:.3f}, {row['ci_high_ms']:.3f}]" if _known(row["ci_low_ms"]) else ""
        yield f"{row['latency_ms']:.3f} ms{interval}, {plain(row['origin'])}"
    if _known(row["score"]):
        origin = FROM.get(row["score_from"], "")
        yield f"score {row['score']:.3f}" + (f" ± {row['score_sd']:.3f}" if _known(row["score_sd"]) else "") + origin
    if _known(row.get("phone_ms")):
        yield (f"iPhone 12 Pro, predicted: {row['phone_ms']:.2f} ms [{row['phone_ms_low']:.2f}, "
               f"{row['phone_ms_high']:.2f}]")
    if _known(row.get("top1")):
        yield f"ImageNet top-1, estimated: {row['top1']:.1f} % [{row['top1_low']:.1f}, {row['top1_high']:.1f}]"
    if _known(row.get("long_run")):
        yield (f"score of a long run, estimated: {row['long_run']:.2f} [{row['long_run_low']:.2f}, "
               f"{row['long_run_high']:.2f}]")
    if _known(row["params_m"]):
        yield f"{row['params_m']:.2f} M parameters, {row['gmacs']:.3f} GMACs"
    if isinstance(row["reason"], str):
        yield plain(row["reason"][:120])


def _scatter(figure: go.Figure, rows: pd.DataFrame, x: Any, y: Any, **style: Any) -> None:
    """One trace of points; every point carries its reference, which is how a click is understood."""
    # An array of objects: plotly would look at every entry of a list.
    figure.add_scatter(x=x, y=y, customdata=np.array(refs(rows), dtype=object), hoverinfo="text",
                       hovertext=np.array(hover(rows), dtype=object), **{"mode": "markers"} | style)


def _cloud(figure: go.Figure, rows: pd.DataFrame, view: View, floor: float, **style: Any) -> None:
    """A trace of maybe thousands of trials; of those that lie over one another one is drawn."""
    x, y = rows[view.x].to_numpy(float), rows[view.y].fillna(floor).clip(lower=floor).to_numpy(float)
    across, window = np.log(x) if view.log else x, view.window
    if window and view.log:
        window = (math.log(window[0]), math.log(window[1]), *window[2:])
    kept = thinned(across, y, window)
    _scatter(figure, rows.iloc[kept], x[kept], y[kept], **style)


def front_figure(frames: Mapping[str, pd.DataFrame], view: View, budget_ms: float, budgets: Sequence[float] = ()
                 ) -> go.Figure:
    """Cost against score for one run, or for several that may share axes; the first is in focus.

    `frames` hold the columns of Trial.row() and `run`; `budgets` are further ones that the run serves.
    What has no score stands on a strip at the chart's floor; trials whose latency was only predicted are not drawn on
    the axis of measured latency.
    """
    import pandas as pd
    import plotly.graph_objects as go

    figure = go.Figure()
    everything = pd.concat(frames.values(), ignore_index=True) if len(frames) > 1 else next(iter(frames.values()))
    focus = next(iter(frames))
    scored = candidates(everything)
    low, high = scored[view.y].min(), scored[view.y].max()
    floor = float(low - 0.06 * (high - low or 1)) if low == low else 0.0
    on_axis = _on_axis(everything, view)

    _cloud(figure, scored[scored.preset.isna()], view, floor, name="trials",
           marker={"color": GREY, "size": 7 if len(scored) < MANY else 5, "opacity": 0.55})
    for outcome in ("stopped_early", "over_budget", "failed"):
        if outcome in view.show:
            colour, symbol = OUTCOMES[outcome]
            _cloud(figure, on_axis[(on_axis.outcome == outcome) & on_axis.preset.isna()], view, floor,
                   name=EXTRAS[outcome],
                   marker={"color": colour, "size": 9, "symbol": symbol, "line": {"width": 1.6, "color": colour}})
    for index, (name, frame) in enumerate(frames.items()):
        _front_line(figure, frame, view, budget_ms, RUNS[index % len(RUNS)],
                    "front" if len(frames) == 1 else f"front of {plain(name)}")
    anchors = _anchors(figure, on_axis[on_axis.run == focus], view, floor)
    others = _published(figure, view)
    shown = on_axis.outcome.isin(["complete", *view.show]) & on_axis[view.y].notna()
    xs = [*on_axis[view.x][shown].agg(["min", "max"]), *anchors, *others]
    if view.x == "latency_ms":
        xs.append(budget_ms)
        figure.add_vrect(x0=budget_ms, x1=np.nanmax(xs) * 2, fillcolor=GREY, opacity=0.07, line_width=0, layer="below")
        for one in dict.fromkeys((budget_ms, *budgets)):
            _budget_line(figure, one, view, chosen=one == budget_ms)
    figure.update_layout(
        xaxis=_axis(X_AXES[view.x], xs, view), yaxis=_y_axis(view),
        # Below the axis, where its rows on a phone's width meet no other words.
        legend={"orientation": "h", "y": -0.16, "x": 0, "yanchor": "top"},
        margin={"t": 30, "r": 10, "b": 10, "l": 10},
        height=540, hovermode="closest", clickmode="event+select", dragmode=False, meta={"floor": floor})
    return figure


def _on_axis(frame: pd.DataFrame, view: View) -> pd.DataFrame:
    """What has a place on the horizontal axis; on that of measured latency a prediction has none."""
    known = frame[view.x].notna()
    return frame[known & frame.origin.eq("measured") if view.x == "latency_ms" else known]


def _budget_line(figure: go.Figure, ms: float, view: View, *, chosen: bool) -> None:
    figure.add_vline(x=ms, line={"color": GREEN, "dash": "dash" if chosen else "dot", "width": 1.5 if chosen else 0.8})
    # The further ones are named at the foot, where they cannot meet the chosen one's name.
    place = {"y": 1, "text": f"budget {ms:g} ms"} if chosen else {"y": 0, "text": f"{ms:g} ms", "xanchor": "left"}
    figure.add_annotation(x=np.log10(ms) if view.log else ms, yref="paper", yanchor="bottom", showarrow=False,
                          font={"color": GREEN, "size": 12 if chosen else 10}, **place)


def _anchors(figure: go.Figure, rows: pd.DataFrame, view: View, floor: float) -> list[float]:
    """Presets and other anchors measured in the run; those without a score as ticks on the floor. Their places."""
    presets = rows[rows.preset.notna() & rows[view.y].notna()]
    _scatter(figure, presets, presets[view.x], presets[view.y], mode="markers+text",
             name="presets, measured here" if view.x == "latency_ms" else "presets",
             text=[plain(name).upper() for name in presets.preset], textposition=_sides(presets, view),
             marker={"color": ORANGE, "size": 11, "symbol": "diamond"})
    others = rows[rows.anchor.notna() & rows.preset.isna()]
    for known, name, symbol in ((True, "other anchors", "diamond-open"),
                                (False, "anchors without a score", "y-up-open")):
        part = others[others[view.y].notna() == known]
        if len(part):
            _scatter(figure, part, part[view.x], part[view.y].fillna(floor), mode="markers+text", name=name,
                     text=[plain(text).removeprefix("timm:") for text in part.anchor], textposition="top center",
                     marker={"color": ORANGE, "size": 11, "symbol": symbol, "line": {"width": 2, "color": ORANGE}})
    return [*presets[view.x], *others[view.x]]


def _sides(rows: pd.DataFrame, view: View) -> list[str]:
    """Where each label stands: below its point, or above it where it would meet the one before."""
    if not len(rows):
        return []
    x, y = rows[view.x].to_numpy(float), rows[view.y].to_numpy(float)
    x = np.log(x) if view.log else x
    near_x, near_y = 0.12 * (np.ptp(x) or 1), 0.12 * (np.ptp(y) or 1)
    sides = ["bottom center"] * len(x)
    order = np.argsort(x)
    for before, at in pairwise(order):
        if x[at] - x[before] < near_x and abs(y[at] - y[before]) < near_y and sides[before] == "bottom center":
            sides[at] = "top center"
    return sides


def _axis(title: str, values: Sequence[float], view: View) -> dict[str, Any]:
    """Fixed for the mouse: Streamlit draws a changed figure anew, and a zoom of plotly's own would be lost with the
    next trial or click. The view's window is what is zoomed to."""
    axis: dict[str, Any] = {"title": title, "zeroline": False, "rangemode": "normal", "fixedrange": True}
    reach = (log_range(values) if view.window is None else [math.log10(edge) for edge in view.window[:2]])
    if view.log and reach:
        ticks = log_ticks(10 ** reach[0], 10 ** reach[1])
        axis |= {"title": title + ", log scale", "type": "log", "range": reach}
        if len(ticks) > 1:
            axis |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    elif view.window is not None:
        axis["range"] = view.window[:2]
    return axis


def _y_axis(view: View) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": Y_AXES[view.y], "zeroline": False, "fixedrange": True}
    return axis | ({"range": view.window[2:]} if view.window else {})


def around_front(rows: pd.DataFrame, view: View, budget_ms: float) -> tuple[float, float, float, float] | None:
    """A window that holds the front's rows with their uncertainty and little else; None when there are none."""
    if not len(rows):
        return None
    x = rows[view.x].to_numpy(float)
    y = rows[view.y].to_numpy(float)
    sd = (rows.score_sd.fillna(0) if view.y == "score" else (rows[f"{view.y}_high"] - y) / 2).to_numpy(float)
    right = budget_ms if view.x == "latency_ms" else x.max()
    low, high = float((y - 2 * sd).min()), float((y + 2 * sd).max())
    room = 0.05 * (high - low) or 0.01
    return float(x.min() / 1.1), float(right * 1.08), low - room, high + room


def _front_line(figure: go.Figure, frame: pd.DataFrame, view: View, budget_ms: float, colour: str, name: str
                ) -> None:
    rows = front_rows(frame, view, budget_ms)
    if not len(rows):
        return
    figure.add_scatter(x=rows[view.x], y=rows[view.y], mode="lines", name=f"{name}, steps",
                       showlegend=False, hoverinfo="skip", line={"color": colour, "shape": "hv", "width": 2})
    confirmed = rows.confirmed.astype(bool)
    for part, label, symbol in ((rows[~confirmed], name, "circle-open"),
                                (rows[confirmed], f"{name}, confirmed", "circle")):
        if not len(part):
            continue
        _scatter(figure, part, part[view.x], part[view.y], name=label, **_errors(part, view),
                 marker={"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2.2, "color": colour}})


def _errors(rows: pd.DataFrame, view: View) -> dict[str, Any]:
    """Error bars: 95 % intervals of latencies and estimates, the standard deviation of a score."""
    found: dict[str, Any] = {}
    for error, name in (("error_x", view.x), ("error_y", view.y)):
        low, high = ("ci_low_ms", "ci_high_ms") if name == "latency_ms" else (f"{name}_low", f"{name}_high")
        if low in rows:
            found[error] = {"type": "data", "symmetric": False, "width": 2,
                            "thickness": 1 if name == "latency_ms" else 0.4,  # wide, and many over one another
                            "array": rows[high] - rows[name], "arrayminus": rows[name] - rows[low]}
    if view.y == "score":
        own = rows.apart_sd.fillna(rows.score_sd).fillna(0)
        found["error_y"] = {"type": "data", "array": own, "thickness": 1, "width": 2}
    return found


def published_fits(view: View) -> bool:
    """Whether published phone latencies and top-1 may stand on these axes: the phone's, and ImageNet's."""
    return view.x == "phone_ms" and view.y == "top1"


def _published(figure: go.Figure, view: View) -> list[float]:
    """What was published for the same phone, in symbols of its own: measured by others, trained in full. Where."""
    if "published" not in view.show or not published_fits(view):
        return []
    frame = published()
    frame = frame[(frame.device == "iPhone 12 Pro") & ~frame.distilled]
    own = frame.preset.notna()
    for part, name, colour, symbol in ((frame[own], "FastViT, as published", ORANGE, "diamond-tall"),
                                       (frame[~own], "peers, as published", PURPLE, "square-open")):
        figure.add_scatter(x=part.latency_ms, y=part.top1, mode="markers", name=name, hoverinfo="text",
                           hovertext=[f"<b>{plain(r.model)}</b>, published<br>{r.latency_ms:.2f} ms, {r.runtime}<br>"
                                      f"top-1 {r.top1:.1f} %" for r in part.itertuples()],
                           marker={"color": colour, "size": 9, "symbol": symbol, "line": {"width": 1.5}})
    return [float(ms) for ms in frame.latency_ms]


def with_recommendation(figure: go.Figure, frame: pd.DataFrame, view: View, pick: int, tied: Sequence[int]
                        ) -> go.Figure:
    """The same figure with a star at the recommended trial, and rings around those that tie with it."""
    shown = _on_axis(frame[frame.trial.isin(tied)], view)
    shown = shown[shown[view.y].notna()]
    ring = {"symbol": "circle-open", "size": 19, "color": GREEN, "line": {"width": 1.5}}
    star = {"symbol": "star", "size": 19, "color": GREEN, "line": {"width": 1, "color": "white"}}
    for rows, label, marker in ((shown[shown.trial != pick], "ties with it", ring),
                                (shown[shown.trial == pick], "recommended", star)):
        if len(rows):
            _scatter(figure, rows, rows[view.x], rows[view.y], name=label, marker=marker)
    return figure


def with_ring(figure: go.Figure, frames: Mapping[str, pd.DataFrame], view: View) -> go.Figure:
    """The same figure with a ring around the choice, as a trace of its own: a selection of plotly's would be lost with
    new data. Nothing else changes, so that a click costs no new figure."""
    figure.data = [trace for trace in figure.data if trace.name != "chosen"]
    if view.pick is None or (view.pick.run and view.pick.run not in frames):
        return figure
    frame = frames[view.pick.run or next(iter(frames))]
    row = _on_axis(frame[frame.trial == view.pick.trial if view.pick.run else frame.preset == view.pick.name], view)
    if len(row := row.head(1)):
        floor = figure.layout.meta["floor"]
        figure.add_scatter(x=row[view.x], y=row[view.y].fillna(floor).clip(lower=floor), mode="markers", name="chosen",
                           hoverinfo="skip", marker={"symbol": "circle-open", "size": 22, "color": VERMILION,
                                                     "line": {"width": 3}})
    return figure


def in_words(frame: pd.DataFrame, view: View, budget_ms: float, unit: str = Y_AXES["score"]) -> str:
    """What the chart says on its own axes, in a sentence: its text alternative, below the recommendation."""
    rows = front_rows(frame, view, budget_ms)
    if not len(rows):
        if frame.origin.eq("predicted").any() and not frame.origin.eq("measured").any():
            return "Nothing was measured: every latency of this run is predicted, so it has no measured front."
        return f"No complete trial is under {budget_ms:g} ms."
    confirmed = int(rows.confirmed.astype(bool).sum())
    sure = "none" if not confirmed else "all" if confirmed == len(rows) else f"{confirmed}"
    ends = [_at(rows.iloc[0], view)] + ([_at(rows.iloc[-1], view)] if len(rows) > 1 else [])
    height = unit if view.y == "score" else _short(Y_AXES[view.y])
    text = (f"{len(rows)} configuration{'s' * (len(rows) > 1)}, {sure} of them confirmed, on the front of "
            f"{_short(X_AXES[view.x])} and {height} under {budget_ms:g} ms: {' to '.join(ends)}")
    under = candidates(frame)
    if not len(under[under.preset.notna() & meets_budget(under.ci_high_ms, budget_ms)]):
        text += "; no preset meets the budget"
    return text + "."


def _short(axis: str) -> str:
    return axis.partition(" (")[0]


def _at(row: pd.Series, view: View) -> str:
    """A point on the chart's axes, with its uncertainty."""
    name = str(row.preset).upper() if isinstance(row.preset, str) else f"trial {row.trial}"
    x = f"{row[view.x]:.3g} " + {"latency_ms": "ms", "phone_ms": "ms", "params_m": "M", "gmacs": "GMACs"}[view.x]
    if view.y == "score":
        y = f"{row.score:.3f}" + (f" ± {row.score_sd:.3f}" if row.score_sd == row.score_sd else "")
    else:
        digits = 1 if view.y == "top1" else 2
        y = f"{row[view.y]:.{digits}f} [{row[f'{view.y}_low']:.{digits}f}, {row[f'{view.y}_high']:.{digits}f}]"
    return f"{name} ({x}, {y})"
