"""What a run prints and leaves behind: the table, front.csv and front.html."""

from __future__ import annotations

import io
import math
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastvit.config import FastViTConfig
from fastvit.difference import in_words, nearest_preset
from fastvit.presets import PRESETS
from nas.files import write_atomic
from nas.report.decision import decided_front
from nas.report.documents import front_document, trial_frame
from nas.runs.budget import is_over_budget, meets_budget
from nas.runs.run import Run
from nas.runs.trained import UNIT
from nas.text import csv

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from rich.table import Table

WIDE, NARROW = 170, 120  # columns of the printed table where nothing bounds it, and where it stops being one
# Okabe-Ito without black: told apart by colour-blind readers, and on light and dark paper.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#8A8A8A"


def front_frame(front: dict[str, Any]) -> pd.DataFrame:
    """The points of a front document as a table, with the nearest preset and the difference in words."""
    import pandas as pd

    rows = []
    for point in front["points"]:
        config = FastViTConfig.from_dict(point["config"])
        near = nearest_preset(config)
        top1, long_run = point["estimated_imagenet_top1"], point["estimated_long_run"]
        delta = {f"delta_{key}": value for key, value in (point.get("delta") or {}).items() if key != "changes"}
        rows.append({key: value for key, value in point.items() if key not in (
            "config", "words", "estimated_imagenet_top1", "estimated_long_run", "delta")} | delta | {
            "estimated_imagenet_top1": top1[0], "estimated_low": top1[1], "estimated_high": top1[2],
            "estimated_long_run": long_run[0], "long_run_low": long_run[1], "long_run_high": long_run[2],
            "nearest_preset": near, "difference": against(point, front, near),
            "words": config.describe(), "config": config.to_json()})
    return pd.DataFrame(rows)


def against(point: dict[str, Any], front: dict[str, Any], preset: str, most: int | None = None) -> str:
    """A point beside a preset, in words: "SA12 with stage-3 depth 6 -> 5: -0.11 ms, score +0.003 ± 0.004"."""
    changes = in_words(FastViTConfig.from_dict(point["config"]), PRESETS[preset], most)
    words = preset.upper() + ("" if changes == "the same" else f" with {changes}")
    anchor = next((a for a in front["anchors"] if a["preset"] == preset), None)
    if anchor is None or changes == "the same":
        return words
    words += f": {point['latency_ms'] - anchor['latency_ms']:+.2f} ms"
    if anchor["score"] is not None and anchor.get("unit") == point.get("unit"):
        delta = point.get("delta") or {}
        # What the two share of their doubt takes no part in their difference (nas/report/recommendation.py).
        sd = (delta["score_sd"] if delta.get("preset") == preset else
              math.hypot(point["score_sd"] or 0.0, anchor["score_sd"] or 0.0))
        if point.get("trained"):
            return words + f", top-1 {100 * (point['score'] - anchor['score']):+.1f} ± {100 * sd:.1f} points"
        words += f", score {point['score'] - anchor['score']:+.3f}" + (f" ± {sd:.3f}" if sd else "")
    return words


def front_csv(front: dict[str, Any]) -> str:
    return csv(front_frame(front))


ESTIMATES = {  # what a table can show in its last column: the heading, the point's field, the digits
    "imagenet": ("estimated ImageNet top-1 [95 %]", "estimated_imagenet_top1", 1),
    "long_run": ("estimated score of a long run [95 %]", "estimated_long_run", 2)}


def front_table(front: dict[str, Any], *, estimate: str | None = None, width: int | None = None) -> str:
    """The front as text: one row a point, then the anchors measured on the same device.

    Args:
        estimate: names what ESTIMATES has, to be shown in place of the nearest preset.
        width: columns; None is the terminal's, and WIDE where there is none. Below NARROW a point takes some lines
            of its own.
    """
    from rich.console import Console
    from rich.table import Table

    found = front.get("recommendation")
    tied = found["tied"] if found else []
    first = [f"Take {found['headline']}", *(f"  {note}" for note in found["notes"]), ""] if found else []
    trained = front.get("unit") == UNIT
    limits = f"{front['limits']}, " if front.get("limits") else ""
    table = Table(title=f"Front under {front['budget_ms']:g} ms on {_device(front)}, {front['resolution']} px, {limits}"
                        f"task {front['task']}  ({_standing(front)}; hypervolume {front['hypervolume']:.4f})",
                  title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, justify in (("trial", "right"), ("latency ms [95 %]", "right"),
                          ("top-1 % [95 %]" if trained else "score", "right"),
                          ("params M", "right"), ("GMACs", "right"), ("configuration", "left"),
                          (ESTIMATES[estimate][0] if estimate else "beside a preset", "left")):
        table.add_column(name, justify=justify, overflow="fold", no_wrap=justify == "right")  # type: ignore[arg-type]
    confirmed = any(point["confirmed"] for point in front["points"])
    for point in front["points"]:
        config = FastViTConfig.from_dict(point["config"])
        delta = point.get("delta")
        near = delta["preset"] if delta else nearest_preset(config)
        last = _estimate(point, estimate)
        if estimate is None and not point.get("preset"):
            last = against(point, front, near, most=3)
        name = f"{point['preset'].upper()}: " if point.get("preset") else ""
        name = f"(not confirmed) {name}" if confirmed and not point["confirmed"] else name
        name = ("* " if len(tied) > 1 and point["trial"] in tied else "") + name
        table.add_row(str(point["trial"]), latency_words(point), score_words(point), f"{point['params_m']:.2f}",
                      f"{point['gmacs']:.3f}", name + config.describe(), last)
    for anchor in front["anchors"]:
        over = " (over)" if is_over_budget(anchor["ci_low_ms"], front["budget_ms"]) else ""
        score = score_words(anchor) if anchor.get("trained") or not trained else "not trained"
        table.add_row("", latency_words(anchor), score, f"{anchor['params_m']:.2f}",
                      f"{anchor['gmacs']:.3f}", f"{_anchor_name(anchor)}{over}", _estimate(anchor, estimate),
                      style="dim")
    for point in front.get("estimated", ()):
        table.add_row(str(point["trial"]), latency_words(point), f"(estimate {score_words(point)})",
                      f"{point['params_m']:.2f}", f"{point['gmacs']:.3f}", f"(not trained) {point['words']}", "",
                      style="dim")
    for point in front.get("fell_off", ()):
        table.add_row(str(point["trial"]), latency_words(point), score_words(point), f"{point['params_m']:.2f}",
                      f"{point['gmacs']:.3f}", f"(fell off) {point['words']}", "", style="dim")
    serves = []
    for budget in front.get("budgets", ()) if len(front.get("budgets", ())) > 1 else ():
        under = [p for p in front["points"] if meets_budget(p["ci_high_ms"], budget)]
        serves.append(f"under {budget:g} ms: " + (f"trial {under[-1]['trial']}, {latency_words(under[-1])} ms, score "
                                                  f"{score_words(under[-1])}" if under else "nothing"))
    said = [*serves, *(["* no point under the budget is better than these beyond doubt"] if len(tied) > 1 else [])]
    said += [front[key] for key in ("movement", "told_apart") if front.get(key)]
    width = width or shutil.get_terminal_size((WIDE, 50)).columns
    if width < NARROW:
        return "\n".join([*_wrapped(first, width), *_in_lines(table, width), *_wrapped(said, width)])
    text = io.StringIO()
    Console(file=text, width=min(width, WIDE), no_color=True, highlight=False).print(table)
    rows = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*_wrapped(first, width), *rows, *_wrapped(said, width)])


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    """Each text's lines, empty ones kept; files and pipes get each text as one line."""
    if width >= WIDE:
        return list(texts)
    return [line for text in texts for line in textwrap.wrap(text, width) or [""]]


def _in_lines(table: Table, width: int) -> list[str]:
    """A table's rows as lines of at most `width` columns: the numbers with their headings, then each text."""
    lines = textwrap.wrap(str(table.title), width)
    numbers = sum(column.justify == "right" for column in table.columns)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        named = [f"{column.header} {cell}" for column, cell in zip(table.columns, cells, strict=True) if cell]
        lines += ["", *textwrap.wrap(", ".join(named[:numbers - (not cells[0])]), width)]
        lines += [line for cell in cells[numbers:] if cell
                  for line in textwrap.wrap(str(cell), width, initial_indent="  ", subsequent_indent="    ")]
    return lines


def _device(front: dict[str, Any]) -> str:
    precision = front.get("precision")
    return front["device"] if precision in (None, "fp32") else f"{front['device']} {precision}"


def latency_words(point: dict[str, Any]) -> str:
    return f"{point['latency_ms']:.3f} [{point['ci_low_ms']:.3f}, {point['ci_high_ms']:.3f}]"


def _estimate(point: dict[str, Any], name: str | None) -> str:
    if name is None:
        return ""
    _, field, digits = ESTIMATES[name]
    found = point.get(field)
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*found, d=digits) if found else "-"


def _standing(front: dict[str, Any]) -> str:
    if own := [point for point in front["points"] if point.get("trained")]:
        return f"trained at full width on {own[0]['trained_images']:,} images each, judged on {own[0]['held_out']}"
    if confirmed := sum(point["confirmed"] for point in front["points"]):
        return f"{confirmed} of {len(front['points'])} points confirmed with several seeds"
    return "scores of single runs, not confirmed" if all(
        p["score_from"] == "run" for p in front["points"]) else "posterior scores, not confirmed"


def score_words(point: dict[str, Any]) -> str:
    if point["score"] is None:
        return "-"
    if point.get("trained"):
        return f"{100 * point['score']:.1f} [{100 * point['top1_low']:.1f}, {100 * point['top1_high']:.1f}]"
    sd = f" ± {point['score_sd']:.3f}" if point.get("score_sd") else ""
    return f"{point['score']:.3f}{sd}"


def _anchor_name(anchor: dict[str, Any]) -> str:
    name = str(anchor["preset"])
    return f"{name.upper()} as published" if name in PRESETS else name


def front_figure(run: Run) -> go.Figure:
    """Latency against score: every trial, the front as a step line, the budget, and the presets as anchors."""
    import plotly.graph_objects as go

    front, frame = front_document(run), trial_frame(run)
    trained = front.get("unit") == UNIT
    shown = frame[(frame.origin == "measured") & frame.score.notna() & frame.preset.isna() & frame.anchor.isna()]
    figure = go.Figure()
    # Scores of trials that ended early are of fewer steps: not on the same scale, so hidden until asked for.
    for outcome, name, symbol, visible in (("complete", "trials", "circle", True),
                                           ("stopped_early", "ended early", "x", "legendonly")):
        own = shown[shown.outcome == outcome] if not trained else shown[:0]  # estimates are on another scale
        figure.add_scatter(x=own.latency_ms, y=own.score, mode="markers", name=name, visible=visible,
                           marker={"color": GREY, "size": 7, "opacity": 0.6, "symbol": symbol}, text=own.words,
                           hovertemplate="%{text}<br>%{x:.3f} ms, score %{y:.3f}<extra></extra>")
    shown = shown[shown.outcome == "complete"]
    points = front["points"]
    if points:
        config = [FastViTConfig.from_dict(p["config"]).describe().replace(", ", "<br>") for p in points]
        figure.add_scatter(
            x=[p["latency_ms"] for p in points], y=[p["score"] for p in points], mode="lines+markers", name="front",
            line={"color": BLUE, "shape": "hv", "width": 2}, marker={"size": 10, "symbol": "circle"}, text=config,
            error_x={"type": "data", "symmetric": False, "thickness": 1,
                     "array": [p["ci_high_ms"] - p["latency_ms"] for p in points],
                     "arrayminus": [p["latency_ms"] - p["ci_low_ms"] for p in points]},
            error_y={"type": "data", "thickness": 1, "array": [p["score_sd"] or 0 for p in points]},
            hovertemplate="<b>trial %{customdata}</b><br>%{text}<br>%{x:.3f} ms, score %{y:.3f}<extra></extra>",
            customdata=[p["trial"] for p in points])
    if fell := front["fell_off"]:
        figure.add_scatter(x=[p["latency_ms"] for p in fell], y=[p["score"] for p in fell], mode="markers",
                           name="fell off when confirmed", marker={"color": BLUE, "size": 10, "symbol": "circle-open"},
                           text=[p["words"] for p in fell], customdata=[p["trial"] for p in fell],
                           hovertemplate="<b>trial %{customdata}</b>, fell off the front when confirmed<br>%{text}<br>"
                                         "%{x:.3f} ms, score %{y:.3f}<extra></extra>")
    anchors = [a for a in front["anchors"] if a["score"] is not None and bool(a.get("trained")) == trained]
    if anchors:
        figure.add_scatter(x=[a["latency_ms"] for a in anchors], y=[a["score"] for a in anchors],
                           mode="markers+text", name="published presets, measured here",
                           text=[str(a["preset"]).upper() for a in anchors], textposition="bottom right",
                           marker={"color": ORANGE, "size": 11, "symbol": "diamond"},
                           hovertemplate="<b>%{text}</b><br>%{x:.3f} ms, score %{y:.3f}<extra></extra>")
    for budget in front["budgets"]:
        figure.add_vline(x=budget, line={"color": GREEN, "dash": "dash"})
    seen = [*shown.latency_ms, *(a["latency_ms"] for a in anchors), front["budget_ms"]]
    axis: dict[str, Any] = {"title": "measured latency (ms)"}
    at = front["budget_ms"]
    if max(seen) > 8 * min(seen):
        # plotly places shapes by value but annotations and ranges by exponent on a log axis.
        at = math.log10(at)
        ticks = [float(f"{digit}e{power}") for power in range(-3, 5) for digit in (1, 2, 5)]
        axis = {"title": "measured latency (ms, log scale)", "type": "log", "tickvals": ticks,
                "ticktext": [f"{tick:g}" for tick in ticks],
                "range": [math.log10(min(seen) / 1.1), math.log10(max(seen) * 1.25)]}
    figure.add_annotation(x=at, y=1, yref="paper", xanchor="right", yanchor="bottom", showarrow=False,
                          text=f"budget {front['budget_ms']:g} ms", font={"color": GREEN})
    figure.update_layout(
        title=f"FastViT configurations under {front['budget_ms']:g} ms on {_device(front)}, "
              f"{front['resolution']} px, task {front['task']}",
        xaxis=axis, yaxis_title="top-1 on held-out images, trained at full width" if trained else "proxy score",
        template="plotly_white", legend={"orientation": "h", "y": -0.18}, margin={"t": 60, "r": 20})
    return figure


def write_report(run: Run) -> dict[str, Any]:
    """Write front.csv and front.html into the run's folder; returns the front document."""
    front = decided_front(run)
    write_atomic(run.path / "front.csv", front_csv(front))
    write_atomic(run.path / "front.html", front_figure(run).to_html(include_plotlyjs=True, full_html=True))
    return front
