"""The report of a run as one HTML file: self-contained, readable without a network, printable."""

from __future__ import annotations

import shlex
from typing import Any

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.estimate.forecast import Forecast
from nas.report.decision import decided_front
from nas.report.documents import status_document
from nas.report.printed import front_figure, latency_words, score_words
from nas.report.recommendation import LARGEST, Limits, why_faster
from nas.runs.run import Run
from nas.search.confirmed import search_trials

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.15rem; margin-top: 2rem }
.pick { border-left: 5px solid #009e73; padding: 0.6rem 1rem; background: #f2f8f6; font-size: 1.15rem }
table { border-collapse: collapse; width: 100%; font-size: 0.85rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: 0.3rem } .scrolls { overflow-x: auto }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.5rem; border-bottom: 1px solid #ccc }
code, pre { font-size: 0.85rem; background: #f4f4f4; overflow-wrap: anywhere; white-space: pre-wrap }
pre { padding: 0.6rem } tr.picked th, tr.picked td { background: #f2f8f6; font-weight: 600 }
@media print { body { margin: 0; max-width: none; font-size: 11pt } h2 { break-after: avoid }
  table, pre, .figure { break-inside: avoid } .scrolls { overflow: visible } }
</style></head><body>
<main>
<h1>{{ title }}</h1>
<p class="pick">{{ headline }}</p>
{% if notes %}<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
<h2>The front</h2>
<div class="figure" role="img" aria-label="{{ headline }}">{{ figure|safe }}</div>
<div class="scrolls" role="group" aria-label="The front" tabindex="0"><table>
<caption>{{ front_caption }}</caption>
<thead><tr><th>trial</th><th>latency ms [95 %]</th><th>{{ unit }}</th><th>confirmed</th><th>beside a preset</th>
<th>params M</th><th>GMACs</th><th>configuration</th></tr></thead><tbody>
{% for row in rows %}<tr{% if row.picked %} class="picked"{% endif %}><th scope="row">{{ row.name }}</th>
<td>{{ row.latency }}</td><td>{{ row.score }}</td><td>{{ row.confirmed }}</td><td>{{ row.beside }}</td>
<td>{{ row.params }}</td><td>{{ row.gmacs }}</td><td>{{ row.words }}{% if row.note %}<br>Note: {{ row.note }}{% endif %}
</td></tr>
{% endfor %}</tbody></table></div>
<h2>What confirming found</h2>
<p>{{ movement }}</p>
{% if fell_off %}<ul>{% for line in fell_off %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
<h2>What the numbers are worth in this run</h2>
<ul>{% for line in worth %}<li>{{ line }}</li>{% endfor %}</ul>
<h2>How to go on</h2>
{% for why, command in commands %}<p>{{ why }}</p><pre>{{ command }}</pre>{% endfor %}
<h2>How it was found</h2>
<table><tbody>{% for name, value in facts %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</tbody></table>
</main></body></html>
"""


def report_page(run: Run, budget_ms: float | None = None, limits: Limits | None = None, against: str = LARGEST) -> str:
    """The report as HTML. Text of the run is escaped.

    Raises:
        UsageError: the run has no trial yet.
    """
    from jinja2 import Environment

    records = search_trials(run)
    if not records:
        raise UsageError(f"{run.path} holds no trials yet; go on with `search.py resume {run.path}`")
    front = decided_front(run, budget_ms, limits, against)
    found = front["recommendation"]
    made_up = "Demonstration, every figure comes from a formula: " if run.meta.synthetic else ""
    title = (f"{made_up}FastViT under {front['budget_ms']:g} ms on {front['device']} at {front['resolution']} px: "
             f"run {run.meta.id}")
    nothing = f"No point meets {front['budget_ms']:g} ms" + (f" with {limits.words()}" if limits else "") + "."
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    return template.render(
        title=title, headline=f"Take {found['headline']}." if found else nothing,
        notes=_notes(front, run), rows=[_row(point, front) for point in front["points"]],
        front_caption=f"{len(front['points'])} points that nothing under the budget beats in both; an interval has to "
                      "end below the budget.",
        unit=front.get("unit") or "proxy score",
        figure=front_figure(run).to_html(include_plotlyjs=True, full_html=False, config={"displaylogo": False}),
        movement=(front["movement"][0].upper() + front["movement"][1:] + ".") if front["movement"] else
        "Nothing was confirmed with further seeds: the scores are of single trainings, or of all trials together.",
        fell_off=[f"Trial {p['trial']} fell off: {latency_words(p)} ms, {score_words(p)}." for p in front["fell_off"]],
        worth=_worth(run), commands=_commands(run, front), facts=_facts(run))


def _notes(front: dict[str, Any], run: Run) -> list[str]:
    found = front["recommendation"]
    if found is None:
        return []
    notes = list(found["notes"])
    point = next((p for p in front["points"] if p["trial"] == found["trial"]), None)
    if point is not None and found["delta"] is not None:
        preset = found["delta"]["preset"]
        why = why_faster(FastViTConfig.from_dict(point["config"]), PRESETS[preset], run.meta.resolution,
                         run.meta.num_classes)
        notes.append(f"From {preset.upper()}: {found['delta']['changes']}." + (f" That is {why}." if why else ""))
    return notes


def _row(point: dict[str, Any], front: dict[str, Any]) -> dict[str, Any]:
    delta, found = point["delta"], front["recommendation"]
    picked = found is not None and found["trial"] == point["trial"]
    standing = " (recommended)" if picked else " (ties)" if point["tied"] and len(found["tied"]) > 1 else ""
    beside = ""
    if delta is not None:
        beside = f"{delta['preset'].upper()}: {delta['latency_percent']:+.0f} % time"
        if delta["score"] is not None:
            beside += f", score {delta['score']:+.3f}" + (f" ± {delta['score_sd']:.3f}" if delta["score_sd"] else "")
    name = f"{point['trial']}" + (f" {point['preset'].upper()}" if point.get("preset") else "")
    return {"name": name + standing + (" ★" if point["star"] else ""), "picked": picked,
            "latency": latency_words(point), "score": score_words(point), "beside": beside,
            "confirmed": "yes" if point["confirmed"] else "no", "params": f"{point['params_m']:.2f}",
            "gmacs": f"{point['gmacs']:.3f}", "words": point["words"], "note": point["note"]}


def _worth(run: Run) -> list[str]:
    """What is known of the errors of this run's figures."""
    records = search_trials(run)
    lines = ["A latency is the warm steady state of the network alone, batch 1, pooled over all sessions that measured "
             "it; its 95 % interval holds the spread between sessions. It is of this device, resolution and runtime "
             "alone."]
    seeds = [r for r in records if r.confirmed]
    if seeds:
        lines.append("The score of a confirmed point is that of its further seeds, brought to the level of the "
                     f"first one by {len(seeds)} networks that all seeds trained; its ± holds the seeds' offsets.")
    words = Forecast.fit(run.meta, records, run.attrs().get("posterior")).words()
    lines.append(f"What the search predicted of networks that it had not tried: {words}")
    if not run.meta.synthetic:
        lines.append("The score orders networks; it is no accuracy of a network that was trained in full "
                     "(`search.py train`).")
    return lines


def _commands(run: Run, front: dict[str, Any]) -> list[tuple[str, str]]:
    place = shlex.quote(str(run.path))
    points = [p for p in front["points"] if not p.get("preset")]
    said = []
    if found := front["recommendation"]:
        said.append(("Write it as a variant that other tools load (its weights are random until it is trained):",
                     f"python search.py export {place} --trial {found['trial']} --name fastvit_mine"))
        task = str(run.meta.task)
        data = shlex.quote(task) if "/" in task else "DIR"
        said.append(("Train it:", f"python search.py train exports/fastvit_mine --data {data}"))
    if points and not all(p["confirmed"] for p in points):
        said.append(("Confirm the points that are not, with further seeds:",
                     f"python search.py resume {place} --minutes 8 --confirm 8"))
    else:
        said.append(("Search on:", f"python search.py resume {place} --minutes 8"))
    return [*said, ("Look at all trials in the browser:", f"python search.py dashboard {place}")]


def _facts(run: Run) -> list[tuple[str, str]]:
    meta, status = run.meta, status_document(run)
    host = meta.host
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in status["trials"].items() if count)
    known = [("run", str(run.path)), ("state", f"{status['state']} after {status['elapsed_s'] / 60:.1f} minutes"),
             ("trials", counts), ("created", meta.created), ("task", meta.task),
             ("fingerprint of the images", meta.task_fingerprint), ("resolution", f"{meta.resolution} px"),
             ("device", meta.device), ("machine", ", ".join(str(v) for v in host.values()) or None),
             ("space", meta.space.name), ("seed", meta.seed),
             ("training steps of a proxy", meta.steps),
             ("versions", ", ".join(f"{k} {v}" for k, v in meta.versions.items()) or None)]
    return [(name, str(value)) for name, value in known if value is not None]
