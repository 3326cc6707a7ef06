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
    progress, ended = run.progress, [r for r in run.records if r.outcome.is_finished]
    since = max(0.0, now_s - (progress.updated or now_s))  # the launcher last said how much time is left
    search_left, left = ((math.nan if said is None else said - since)
                         for said in (progress.search_seconds_left, progress.seconds_left))
    if not run.records:
        what = ("Nothing is measured yet. First a parent network is trained on these images, once, unless an earlier "
                "run left it; then the presets are measured and trained, and the search begins")
    elif progress.confirming == "now":
        what = "Confirming: the points of the front are trained with further seeds and measured side by side"
    elif (presets := sum(r.preset is not None for r in ended)) < len(PRESETS) and not any(
            r.preset is None and r.anchor is None for r in ended):
        what = f"The presets come first: {presets} of {len(PRESETS)} are done"
    else:
        searched = sum(r.counted for r in ended)
        limit = progress.trial_limit
        what = f"Searching: {searched} configurations" + (f" of {limit}" if limit else "") + " are done"
        if search_left > 0:
            what += f", {_minutes(search_left)} are left for it"
    if not math.isnan(left):
        what += f". The run ends in {_minutes(left)}" if left > 0 else ". Its time is up: it ends now"
    return what + "."


def plan(run: Snapshot) -> str:
    """What the run was asked to do, in a sentence."""
    meta, progress = run.meta, run.progress
    parts = [f"{progress.workers} worker{'s' * (progress.workers != 1)}"] if progress.workers else []
    parts.append({"surrogate": "proposals by a surrogate of the score"}.get(
        meta.sampler, f"proposals by {meta.sampler}"))
    if meta.steps:
        parts.append(f"{meta.steps} training steps a proxy at most")
    parts.append("the front is confirmed at the end" if progress.confirming else "no point is confirmed")
    feasible = f" {progress.feasible}." if progress.feasible else ""
    return f"Plan: {', '.join(parts)}.{feasible}"


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
