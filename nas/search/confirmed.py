"""A run's trials, each with what confirming it found: the trials that repeat it with further seeds are folded in."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas.estimate.offsets import Offsets, Score, bench_scores, fit_seeds, seed_offsets
from nas.proxy.recipe import RECIPE
from nas.runs.measurement import Measurement, Origin
from nas.runs.trained import UNIT
from nas.runs.trial import PROXY_UNIT, Confirmed, Estimate, Outcome, SeedRun, Source, Trial

if TYPE_CHECKING:
    from nas.runs.run import Run

SEEDS = 3  # in all, the one of the search among them
LATENCY_ATTR, POSTERIOR_ATTR = "confirm_latency", "posterior"


def search_trials(run: Run) -> list[Trial]:
    """The run's trials so far, in order; those that confirm another one are folded into it.

    Raises:
        UsageError: the journal is damaged.
    """
    # What ships says nothing of the levels of another recipe's seeds.
    images = run.meta.task_fingerprint if run.meta.recipe == RECIPE else ""
    every = run.trials()
    return with_confirmations(every, run.attrs(), images) if every else []


def with_confirmations(trials: Sequence[Trial], attrs: Mapping[str, Any], fingerprint: str = "") -> list[Trial]:
    """The trials of the search, each with its posterior and with what confirming it found.

    A trial is confirmed when all its seeds are there. Its score is what the further seeds say of it on the level of the
    first one, as a mixed model of configurations and seeds has it (nas/estimate/offsets.py); the search's own run, for
    which it was chosen, does not count. The latency of every trial is that of all sessions that measured its network,
    and what full-width training found of a configuration is its trial's.

    Args:
        fingerprint: of the images, whose runs in FastViT-Bench tell the seeds' offsets too; "" for none.
    """
    posteriors = read_posteriors(attrs.get(POSTERIOR_ATTR))
    apart = read_apart(attrs.get(POSTERIOR_ATTR))
    latencies = _latencies(trials, read_latencies(attrs.get(LATENCY_ATTR)))
    further: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.confirms is not None and trial.outcome == Outcome.COMPLETE and trial.score is not None:
            further.setdefault(trial.confirms, []).append(trial)
    known = _unchosen(trials, further, fingerprint) if further else {}
    first = next((t.seed for t in trials if t.confirms is None and t.seed is not None), 0)
    model = fit_seeds(tuple(Score(item, seed, value) for (item, seed, step), value in known.items() if step is None),
                      first)
    offset = seed_offsets([(item, seed, step, value) for (item, seed, step), value in known.items()
                           if step is not None], first)
    trained = {trial.trains: trial.full for trial in trials if trial.trains is not None and trial.full is not None}
    found = []
    for trial in trials:
        if trial.confirms is not None or trial.trains is not None:
            continue
        first_latency, trial = trial.latency, replace(trial, trained=trained.get(trial.trial))
        if (latency := latencies.get(trial.config_key or "")) is not None and first_latency is not None:
            trial = replace(trial, latency=latency, reason=trial.reason or _moved(first_latency, latency))
        if (posterior := posteriors.get(trial.trial)) is not None:
            trial = replace(trial, posterior=posterior[0], z_score=posterior[1], apart_sd=apart.get(trial.trial))
        own = further.get(trial.trial, ())
        if len(own) >= SEEDS - 1:
            score, sd = model.scores[trial.config_key]
            runs = tuple(_less_offset(model.offsets, offset, run) for run in (trial, *own))
            trial = replace(trial, confirmed=Confirmed(score, sd, runs, first_latency))
        found.append(trial)
    return found


def _unchosen(trials: Sequence[Trial], further: Mapping[int, Sequence[Trial]], fingerprint: str,
              ) -> dict[tuple[str | None, int, int | None], float]:
    """Scores by configuration key, seed and steps (None: at the end of training), without those for which a trial was
    chosen to be confirmed. Presets are confirmed because they are presets, and what ships was chosen by nobody."""
    found: dict[tuple[str | None, int, int | None], float] = {}
    several = [trial for trial in trials if trial.trial in further]
    if several:
        last = max((rung.step for trial in several for rung in trial.scores), default=0)
        for key, seed, steps, score in bench_scores(fingerprint) if fingerprint else ():
            found[str(key), seed, steps] = score
            if steps == last:
                found[str(key), seed, None] = score
    for trial in several:
        for run in (trial, *further[trial.trial]):
            for rung in run.scores:
                found[trial.config_key, run.seed or 0, rung.step] = rung.score
            if run.score is not None:
                found[trial.config_key, run.seed or 0, None] = run.score
    for trial in several:
        if not trial.preset:
            own = [key for key in found if key[:2] == (trial.config_key, trial.seed or 0)]
            for key in own:
                del found[key]
    seeds: dict[str | None, set[int]] = {}
    for item, seed, _ in found:
        seeds.setdefault(item, set()).add(seed)
    wanted = {trial.config_key for trial in several}
    return {key: value for key, value in found.items() if key[0] in wanted or len(seeds[key[0]]) > 1}


def read_posteriors(values: Any) -> dict[int, tuple[Estimate, float | None]]:
    """By trial: its posterior, and the z-score of that; empty for what update_posterior cannot have written."""
    found = {}
    try:
        unit = values.get("unit")
        unit = f"estimated {UNIT}" if isinstance(unit, str) and unit.startswith(UNIT) else PROXY_UNIT
        for number, (mean, sd, *z_score) in values["trials"].items():
            numbers = [float(value) for value in (mean, sd, *z_score)]
            if all(map(math.isfinite, numbers)):
                found[int(number)] = (Estimate(numbers[0], numbers[1], Source.POSTERIOR, unit),
                                      numbers[2] if z_score else None)
    except (TypeError, ValueError, KeyError, AttributeError):
        return {}
    return found


def read_apart(values: Any) -> dict[int, float]:
    """By trial: the standard deviation of its posterior beside others; without what nobody can have written."""
    found = {}
    kept = values.get("apart") if isinstance(values, dict) else None
    for number, sd in kept.items() if isinstance(kept, dict) else ():
        if str(number).isdigit() and isinstance(sd, float) and math.isfinite(sd):
            found[int(number)] = sd
    return found


def read_latencies(values: Any) -> dict[str, list[Measurement]]:
    """By configuration key: the sessions in which it was measured again; without what measure_again cannot have
    written. Earlier versions kept one session."""
    found: dict[str, list[Measurement]] = {}
    for key, sessions in values.items() if isinstance(values, dict) else ():
        for one in sessions if isinstance(sessions, list) else [sessions]:
            with contextlib.suppress(ValueError):
                found.setdefault(key, []).append(Measurement.from_dict(one))
    return found


def _latencies(trials: Sequence[Trial], again: Mapping[str, Sequence[Measurement]]) -> dict[str, Measurement]:
    """By configuration key, what all sessions of that network say, where that is more than its own trial's session."""
    from nas.latency.pool import between_sessions, distinct, pooled

    if not again:  # the usual case while a run searches, asked for twice a second
        return {}
    sessions: dict[str, list[Measurement]] = {}
    for trial in trials:
        if trial.config_key is not None and trial.latency is not None and trial.origin == Origin.MEASURED:
            sessions.setdefault(trial.config_key, []).append(trial.latency)
    for key, found in again.items():
        sessions.setdefault(key, []).extend(found)
    groups = {key: distinct(found) for key, found in sessions.items()}
    between = between_sessions(groups.values())
    return {key: pooled(found, between) for key, found in groups.items() if len(found) > 1 or between}


def _moved(first: Measurement, latency: Measurement) -> str | None:
    """Where a trial's decisions were made on a latency that its network turned out not to have."""
    if first.ci_low_ms <= latency.latency_ms <= first.ci_high_ms:
        return None
    return f"first measured at {first.latency_ms:.3f} ms"


def _less_offset(offsets: Mapping[int, float], by_steps: Offsets, run: Trial) -> SeedRun:
    """A training, its scores on the level of the first seed."""
    last = offsets.get(run.seed or 0, 0.0)
    own = [by_steps.get((run.seed or 0, rung.step), 0.0) for rung in run.scores]
    if own:
        own[-1] = last
    return SeedRun(run.seed or 0, (run.score or 0.0) - last, last, tuple(
        replace(rung, score=rung.score - taken) for rung, taken in zip(run.scores, own, strict=True)))


def references(trials: Sequence[Trial]) -> list[Trial]:
    """The presets that have a score: what the offsets of further seeds are known by."""
    return [t for t in trials if t.preset and t.score is not None and t.outcome == Outcome.COMPLETE]
