"""How far a run is, in words: its phase, what is left of its time, what runs, what waits, and what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dashboard.load import Snapshot
from fastvit.presets import PRESETS


def _minutes(seconds: float) -> str:
    return "less than a minute" if seconds < 60 else f"{seconds / 60:.0f} min"


def phase(run: Snapshot, now_s: float) -> str:
    """What a running run is at, and for how long, in a sentence or two.

    Args:
        now_s: seconds since the epoch.
    """
    meta, ended = run.meta, [r for r in run.records if r.outcome != "running"]
    deadline, search = (float(meta.get(key) or math.nan) for key in ("deadline", "search_deadline"))
    if not run.records:
        what = ("Nothing is measured yet. First a parent network is trained on these images, once, unless an earlier "
                "run left it; then the presets are measured and trained, and the search begins")
    elif meta.get("confirming") == "now":
        what = "Confirming: the points of the front are trained with further seeds and measured side by side"
    elif (presets := sum(r.preset is not None for r in ended)) < len(PRESETS) and not any(
            r.preset is None and r.anchor is None for r in ended):
        what = f"The presets come first: {presets} of {len(PRESETS)} are done"
    else:
        searched = sum(r.counted for r in ended)
        limit = meta.get("trial_limit")
        what = f"Searching: {searched} configurations" + (f" of {limit}" if limit else "") + " are done"
        if search == search and search > now_s:
            what += f", {_minutes(search - now_s)} are left for it"
    if deadline == deadline:
        left = deadline - now_s
        what += f". The run ends in {_minutes(left)}" if left > 0 else ". Its time is up: it ends now"
    return what + "."


def plan(run: Snapshot) -> str:
    """What the run was asked to do, in a sentence."""
    meta = run.meta
    parts = [f"{meta['workers']} worker{'s' * (meta['workers'] != 1)}"] if isinstance(meta.get("workers"), int) else []
    parts.append({"surrogate": "proposals by a surrogate of the score"}.get(
        str(meta.get("sampler")), f"proposals by {meta.get('sampler', 'a sampler')}"))
    if isinstance(meta.get("steps"), int):
        parts.append(f"{meta['steps']} training steps a proxy at most")
    parts.append("the front is confirmed at the end" if meta.get("confirming") else "no point is confirmed")
    reach = f" {meta['reach']}." if isinstance(meta.get("reach"), str) else ""
    return f"Plan: {', '.join(parts)}.{reach}"


def queue_words(run: Snapshot) -> str:
    """What runs and what waits; empty when nothing does."""
    running = [r for r in run.records if r.outcome == "running"]
    said = []
    if running and run.state == "running":
        said.append(f"{len(running)} running ({_listed([f'trial {r.trial}' for r in running])})")
    if run.queue:
        sent = [w for w in run.queue if w.why.startswith("sent")]
        said.append(f"{len(run.queue)} waiting" + (
            f", {len(sent)} of them sent from here ({_listed([f'trial {w.trial}: {w.words}' for w in sent])})"
            if sent else ""))
    return "; ".join(said) + "." if said else ""


def failures(run: Snapshot, most: int = 3) -> list[str]:
    """Why trials failed, the most frequent reason first, each with how often."""
    from dashboard.tables import reasons

    found = reasons(run.frame[run.frame.outcome == "failed"])
    return [f"{row.trials} × {row.reason}" for row in found.head(most).itertuples()]


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
