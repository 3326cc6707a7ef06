"""The front of a run's trials, and how confirming moved it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nas.runs.budget import meets_budget
from nas.runs.measurement import Measurement
from nas.runs.trial import Confirmed, Outcome, Trial
from nas.search.confirmed import SEEDS
from nas.search.pareto import hypervolume, pareto


def eligible(trial: Trial, budget_ms: float) -> bool:
    """Whether a trial can stand on a front: scored to the end and measured under the budget beyond doubt."""
    return (trial.score is not None and trial.outcome == Outcome.COMPLETE and trial.anchor is None
            and trial.meets_budget(budget_ms))


def axes(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
    """Latencies in ms, and the scores that are shown, of eligible trials."""
    return ([t.latency_ms or math.nan for t in trials],
            [t.shown.value if t.shown is not None else math.nan for t in trials])


def front_of(records: Sequence[Trial], budget_ms: float) -> list[Trial]:
    """The eligible trials that no other one dominates, from fast to slow: once networks are trained at full width, of
    those alone, for their top-1 and an estimate are not on one scale."""
    under = [r for r in records if eligible(r, budget_ms)]
    under = [r for r in under if r.trained is not None] or under
    return [under[i] for i in pareto(*axes(under))]


def front_volume(trials: Sequence[Trial], budget_ms: float) -> float:
    """The one hypervolume of a run: the area between its front, presets included, and the corner of budget and score
    0, as a share of the budget times one unit of score."""
    return hypervolume(*axes(front_of(trials, budget_ms)), budget_ms=budget_ms)


def before_confirming(trials: Sequence[Trial]) -> list[Trial]:
    """The trials as they were known before any was confirmed: with their first latency, and without further seeds."""
    return [t if t.confirmed is None else replace(t, confirmed=None, latency=t.confirmed.latency_before)
            for t in trials]


def estimated_front(records: Sequence[Trial], budget_ms: float) -> list[Trial]:
    """The front of the trials that were not trained at full width, by their estimates."""
    return front_of([r for r in records if r.trained is None], budget_ms)


def _confirmed(trials: Sequence[Trial], budget_ms: float) -> list[tuple[Trial, Confirmed, Measurement]]:
    """What was confirmed and met the budget by its first measurement: trial, what was found, that."""
    return [(t, t.confirmed, before) for t in trials if t.confirmed is not None
            and (before := t.confirmed.latency_before) is not None and meets_budget(before.ci_high_ms, budget_ms)]


def fell_off(records: Sequence[Trial], budget_ms: float) -> list[Trial]:
    """Finalists that are on the front no more, now that they are confirmed."""
    kept = {r.trial for r in front_of(records, budget_ms)}
    return [t for t, _, _ in _confirmed(records, budget_ms) if not t.preset and t.trial not in kept]


def movement(trials: Sequence[Trial], budget_ms: float) -> str:
    """How much confirming moved the front, in words; empty when nothing was confirmed."""
    done = [(t, confirmed, before) for t, confirmed, before in _confirmed(trials, budget_ms) if not t.preset]
    if not done:
        return ""
    first = np.array([t.score or 0.0 for t, _, _ in done])
    later = np.array([np.mean([run.score for run in confirmed.runs[1:]]) for _, confirmed, _ in done])
    ms = np.array([t.latency_ms or np.nan for t, _, _ in done])
    ms_before = np.array([before.latency_ms for _, _, before in done])
    front = front_of(trials, budget_ms)
    return (f"confirmed: {sum(t.confirmed is not None for t in front)} of the {len(front)} points of the front; "
            f"{len(done)} finalist{'s' * (len(done) > 1)} with {SEEDS} seeds each; their first scores were "
            f"{_beside(np.mean(first - later), '.3f')} those of the further seeds on average, their first "
            f"latencies {_beside(100 * np.nanmean(ms_before / ms - 1), '.1f', ' %')} those of all "
            f"sessions; the front's hypervolume went from {front_volume(before_confirming(trials), budget_ms):.4f} to "
            f"{front_volume(trials, budget_ms):.4f}; {len(fell_off(trials, budget_ms)) or 'none'} fell off the front")


def _beside(difference: float, digits: str, unit: str = "") -> str:
    return f"{abs(difference):{digits}}{unit} {'above' if difference > 0 else 'below'}"
