"""What others published: ImageNet top-1 and latency of the presets and of their peers, a device at a time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from dashboard.figures.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, log_range, log_ticks, plain
from nas.search.pareto import pareto

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

STYLES = (("circle", BLUE), ("square", GREEN), ("triangle-up", VERMILION), ("cross", PURPLE), ("star", SKY),
          ("triangle-down", BLUE), ("pentagon", GREEN), ("hexagram", VERMILION))


@cache
def published() -> pd.DataFrame:
    """fastvit/published.csv, with `where` (device and runtime, never mixed), `family` and `preset`."""
    import pandas as pd

    from fastvit.published import published as rows

    frame = pd.DataFrame([vars(row) for row in rows()])
    frame = frame[frame.latency_ms.notna() & frame.top1.notna() & (frame.batch == 1)].copy()
    frame["where"] = frame.device + ", " + frame.runtime
    frame["family"] = frame.model.str.extract(r"^((?:CAS-|Mobile-)?[A-Za-z]+?(?:[Vv]\d)?)(?=[^A-Za-z]|$)", expand=False)
    names = frame.model.str.extract(r"^FastViT-([A-Z]+\d+)$", expand=False)
    frame["preset"] = names.str.lower().where(names.notna(), None)
    return frame


def places() -> list[str]:
    """Device and runtime, the one of the presets first, then by number of networks."""
    frame = published()
    found = list(frame["where"].value_counts().index)
    first = frame[frame.preset.notna()]["where"].mode().tolist()
    return list(dict.fromkeys([*first, *found]))


def selection(where: str, *, distilled: bool) -> pd.DataFrame:
    """Networks published for one device and runtime, trained with or without a teacher, fast to slow."""
    frame = published()
    return frame[(frame["where"] == where) & (frame.distilled == distilled)].sort_values("latency_ms")


def published_figure(rows: pd.DataFrame, highlight: str | None = None) -> go.Figure:
    """Published latency against published ImageNet top-1, by family; the preset `highlight` is ringed."""
    import plotly.graph_objects as go

    figure = go.Figure()
    front = rows.iloc[pareto(rows.latency_ms.to_numpy(float), rows.top1.to_numpy(float))]
    figure.add_scatter(x=front.latency_ms, y=front.top1, mode="lines", name="nothing here beats these",
                       line={"shape": "hv", "color": GREY, "width": 1.2, "dash": "dot"}, hoverinfo="skip")
    families = [name for name in rows.family.value_counts().index if name != "FastViT"]
    for index, family in enumerate(families):
        part = rows[rows.family == family]
        symbol, colour = STYLES[index % len(STYLES)]
        figure.add_scatter(x=part.latency_ms, y=part.top1, mode="markers", name=plain(family),
                           marker={"symbol": symbol, "color": colour, "size": 8,
                                   "opacity": 0.85}, hovertext=_hover(part), hoverinfo="text")
    own = rows[rows.family == "FastViT"]
    if len(own):
        labels = [name.upper() if isinstance(name, str) else model.rpartition(" ")[2]
                  for name, model in zip(own.preset, own.model, strict=True)]
        figure.add_scatter(x=own.latency_ms, y=own.top1, mode="markers+text", name="FastViT, as published",
                           text=labels, textposition="bottom right", hovertext=_hover(own), hoverinfo="text",
                           marker={"symbol": "diamond", "color": ORANGE, "size": 11})
    ring = own[own.preset == highlight]
    if len(ring):
        figure.add_scatter(x=ring.latency_ms, y=ring.top1, mode="markers", name="nearest to the chosen one",
                           hoverinfo="skip", marker={"symbol": "circle-open", "size": 22, "color": VERMILION,
                                                     "line": {"width": 3}})
    reach = log_range(rows.latency_ms) or [0, 1]
    ticks = log_ticks(10 ** reach[0], 10 ** reach[1])
    figure.update_layout(
        xaxis={"title": "published latency (ms, log scale)", "type": "log", "range": reach, "tickvals": ticks,
               "ticktext": [f"{tick:g}" for tick in ticks]},
        yaxis_title="published ImageNet top-1 (%)", height=430, margin={"t": 10, "r": 10, "b": 10, "l": 10})
    return figure


def _hover(rows: pd.DataFrame) -> list[str]:
    return [f"<b>{plain(r.model)}</b><br>{r.latency_ms:.2f} ms, top-1 {r.top1:.1f} %<br>{plain(r.source)[:110]}"
            for r in rows.itertuples()]


def published_words(rows: pd.DataFrame, where: str) -> str:
    own = rows[rows.preset.notna()]
    text = f"{len(rows)} networks as published for {where}, batch 1"
    if len(own):
        text += (f"; FastViT from {own.iloc[0].preset.upper()} ({own.iloc[0].latency_ms:.2f} ms, {own.iloc[0].top1:.1f}"
                 f" %) to {own.iloc[-1].preset.upper()} ({own.iloc[-1].latency_ms:.2f} ms, {own.iloc[-1].top1:.1f} %)")
    return text + ". These figures are others', on another device and task than this run's."
