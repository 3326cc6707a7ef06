"""Finalists: trained again with other seeds, from other parents, and measured again in sessions of their own.

The best of many noisy scores is too good to be true (the winner's curse), so the points of a front are confirmed
before they are reported. Each further seed is a trial of its own in the study, with the attribute `confirms`: it is
claimed, killed, tried again and recorded like every other, on whatever machine has a worker free. Presets that have a
score are trained again too: nobody chose them for it, so they tell how far a parent lifts all scores.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.data import DRAWN
from nas.estimate.offsets import Level, levels, shipped_levels
from nas.search.pareto import hypervolume, pareto

if TYPE_CHECKING:
    from nas.runs.run import Run, TrialRecord

SEEDS = 3  # in all, the one of the search among them
SHARE = 0.3  # of a run's minutes that are kept for confirming
FINALISTS = 8
LATENCY_ATTR, POSTERIOR_ATTR = "confirm_latency", "posterior"


def fold(records: Sequence[TrialRecord], attrs: Mapping[str, Any], fingerprint: str = "") -> list[TrialRecord]:
    """The trials of the search, each with its posterior and with what confirming it found.

    A trial is confirmed when all its seeds are there. Its score is the mean over them, on the level of the first seed
    (nas/estimate/offsets.py) as far as FastViT-Bench, on the images that it has, or else presets tell it. The standard
    deviation of that mean comes from the spread between seeds, parents included, pooled over everything that was
    confirmed. The latency of every trial is that of all sessions that measured its network.
    """
    posterior = attrs.get(POSTERIOR_ATTR, {}).get("trials", {})
    latencies = _latencies(records, attrs.get(LATENCY_ATTR, {}))
    apart = attrs.get(POSTERIOR_ATTR, {}).get("apart", {})
    further: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.confirms is not None and record.outcome == "complete" and record.score is not None:
            further.setdefault(record.confirms, []).append(record)
    level = _levels(records, further, fingerprint)
    whole = {record.trial: [_on(level, run) for run in (record, *further[record.trial])] for record in records
             if len(further.get(record.trial, ())) >= SEEDS - 1}
    spreads = [np.var([run["score"] for run in runs], ddof=1) for runs in whole.values()]
    spread = float(np.sqrt(np.mean(spreads))) if spreads else 0.0
    found = []
    for record in records:
        if record.confirms is not None:
            continue
        changes: dict[str, Any] = {}
        if (latency := latencies.get(record.config_key or "")) is not None and record.origin == "measured":
            changes |= {"latency": latency, "reason": record.reason or _moved(record, latency)}
        if (own := posterior.get(str(record.trial))) is not None:
            changes |= {"posterior": (own[0], own[1]), "standing": own[2] if len(own) > 2 else None,
                        "apart_sd": apart.get(str(record.trial))}
        if (runs := whole.get(record.trial)) is not None:
            changes["confirmed"] = {
                "score": float(np.mean([run["score"] for run in runs])), "score_sd": spread / len(runs)**0.5,
                "runs": runs, "latency_before": record.latency}
        found.append(replace(record, **changes) if changes else record)
    return found


def _latencies(records: Sequence[TrialRecord], again: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By configuration key, what all sessions of that network say, where that is more than its own trial's session."""
    from nas.latency.measurement import Measurement
    from nas.latency.pool import between_sessions, distinct, pooled

    if not again:  # the usual case while a run searches, asked for twice a second
        return {}
    kept: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.config_key and record.origin == "measured":
            kept.setdefault(record.config_key, []).append(record.latency or {})
    for key, found in again.items():  # one session where an earlier version confirmed
        kept.setdefault(key, []).extend(found if isinstance(found, list) else [found])
    least = {"name": "", "device": "", "origin": "measured", "resolution": 0}
    sessions = {key: [Measurement.from_dict({**least, "config_key": key, **one}) for one in found]
                for key, found in kept.items()}
    groups = {key: distinct(found) for key, found in sessions.items()}
    between = between_sessions(groups.values())
    return {key: pooled(found, between).to_dict() for key, found in groups.items() if len(found) > 1 or between}


def _moved(record: TrialRecord, latency: Mapping[str, Any]) -> str | None:
    """Where a trial's decisions were made on a latency that its network turned out not to have."""
    first = record.latency or {}
    if first["ci_low_ms"] <= latency["latency_ms"] <= first["ci_high_ms"]:
        return None
    return f"first measured at {first['latency_ms']:.3f} ms"


def _levels(records: Sequence[TrialRecord], further: Mapping[int, Sequence[TrialRecord]], fingerprint: str) -> Level:
    """Of every further seed, by what ships for these images, or else by the presets that were trained with it."""
    if not further:
        return {}
    first = next((r.seed for r in records if r.confirms is None and r.seed is not None), 0)
    known = [(record.trial, run.seed, rung["step"], rung["score"]) for record in references(records)
             for run in (record, *further.get(record.trial, ())) for rung in run.scores]
    return levels(known, first) | shipped_levels(fingerprint, first)


def _on(level: Level, run: TrialRecord) -> dict[str, Any]:
    """A run's seed, score and rungs, on the level of the first seed; "level" is what that took off the score."""
    own = [level.get((run.seed, rung["step"]), 0.0) for rung in run.scores]
    off = own[-1] if own else 0.0
    return {"seed": run.seed, "score": (run.score or 0.0) - off, "level": off, "scores": [
        rung | {"score": rung["score"] - taken} for rung, taken in zip(run.scores, own, strict=True)]}


def eligible(record: TrialRecord, budget_ms: float) -> bool:
    """Whether a trial can stand on a front: scored to the end and measured under the budget beyond doubt."""
    return (record.score is not None and record.origin == "measured" and record.outcome == "complete"
            and record.anchor is None and record.latency is not None
            and record.latency.get("ci_high_ms", np.inf) <= budget_ms)


def axes(records: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
    """Latencies in ms, and the scores that are shown, of eligible trials."""
    return [r.latency_ms or 0.0 for r in records], [r.estimate[0] or 0.0 for r in records]


def front_of(records: Sequence[TrialRecord], budget_ms: float) -> list[TrialRecord]:
    """The eligible trials that no other one dominates, from fast to slow."""
    under = [r for r in records if eligible(r, budget_ms)]
    return [under[i] for i in pareto(*axes(under))]


def front_volume(records: Sequence[TrialRecord], budget_ms: float) -> float:
    """The one hypervolume of a run: the area between its front, presets included, and the corner of budget and score
    0, as a share of the budget times one unit of score."""
    return hypervolume(*axes(front_of(records, budget_ms)), budget_ms=budget_ms, score_floor=0.0)


def before_confirming(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials as they were known before any was confirmed: with their first latency, and without further seeds."""
    return [r if r.confirmed is None else replace(r, confirmed=None, latency=r.confirmed["latency_before"])
            for r in records]


def finalists(records: Sequence[TrialRecord], budget_ms: float, count: int) -> list[TrialRecord]:
    """The points of the front that are not confirmed yet, those first which add most hypervolume; at most `count`."""
    front = front_of(records, budget_ms)

    def without(record: TrialRecord) -> float:
        return hypervolume(*axes([r for r in front if r is not record]), budget_ms=budget_ms, score_floor=0.0)

    return sorted((r for r in front if r.confirmed is None), key=without)[:count]


def references(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The presets that have a score: what the levels of further seeds are known by."""
    return [r for r in records if r.preset and r.score is not None and r.outcome == "complete"]


def enqueue(run: Run, chosen: Sequence[TrialRecord]) -> int:
    """Put the missing seeds of `chosen` in the study's queue, all of one before those of the next, so that two workers
    train two parents instead of waiting for one; how many."""
    begun = {(r.confirms, r.seed) for r in run.all_records() if r.confirms is not None and r.outcome != "failed"}
    begun |= {(t.user_attrs["confirms"], t.user_attrs["seed"]) for t in waiting_trials(run)
              if "confirms" in t.user_attrs}
    count = 0
    for record in chosen:
        for seed in further_seeds(run.meta):
            if (record.trial, seed) not in begun:
                run.study.enqueue_trial({}, user_attrs={"confirms": record.trial, "seed": seed,
                                                        "config": record.config})
                count += 1
    return count


def further_seeds(meta: Mapping[str, Any]) -> range:
    return range(meta["seed"] + 1, meta["seed"] + SEEDS)


def parents_seconds(meta: Mapping[str, Any]) -> float:
    """About how long the parents take, of CPU, that confirming this run still has to train."""
    from nas.proxy.parent import SECONDS, STEPS, parent_path, parent_steps

    missing = [seed for seed in further_seeds(meta)
               if not parent_path(meta["task_fingerprint"], meta["steps"], seed).exists()]
    return SECONDS * parent_steps(meta["steps"]) / STEPS * len(missing)


def waiting_trials(run: Run) -> list[Any]:
    from optuna.trial import TrialState

    return run.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def measure_again(run: Run, chosen: Sequence[TrialRecord], until: float | None = None) -> None:
    """Measure finalists and their nearest presets once more, each in a session of its own, and keep each with the study
    as soon as it is known; none is begun after `until` (seconds since the epoch).

    Raises:
        Failure, NotAvailable: as nas.latency.measure; what was measured before stays.
    """
    from fastvit.difference import nearest_preset
    from fastvit.presets import PRESETS
    from nas.latency import measure

    configs = {r.config_key: r.architecture for r in chosen if r.config and r.config_key}
    for config in list(configs.values()):
        preset = PRESETS[nearest_preset(config)]
        configs.setdefault(preset.key(), preset)
    for key, config in configs.items():
        if until is not None and time.time() > until:
            return
        found = measure(config, run.meta["device"], resolution=run.meta["resolution"], fresh=True)
        known = run.attrs().get(LATENCY_ATTR, {})
        before = known.get(key, [])
        run.set_attr(LATENCY_ATTR, known | {key: [*(before if isinstance(before, list) else [before]),
                                                  found.to_dict() | {"samples": {}}]})


def update_posterior(run: Run) -> None:
    """Fit the run's posterior (nas/estimate/posterior.py) and keep it with the study, unless there are too few
    trials."""
    from nas.estimate.long_run import population, standing
    from nas.estimate.posterior import fit_posterior

    records = run.records()
    if run.meta.get("task", DRAWN[0]) not in DRAWN:
        _update_estimates(run, records)
        return
    fitted = fit_posterior(run.meta, records)
    if not fitted.ready:
        return
    model = fitted.model
    known = [r for r in records if r.config and r.scores and r.outcome in ("complete", "stopped_early")]
    configs = [r.architecture for r in known]
    mean, sd = fitted.predict(configs)
    values = np.column_stack([mean, sd, standing(model, configs, population())]).round(5).tolist()
    run.set_attr(POSTERIOR_ATTR, {"steps": run.meta["steps"], "noise_sd": round(model.noise_sd, 5), "trials": {
        str(record.trial): value for record, value in zip(known, values, strict=True)}} | fitted.kept)


def _update_estimates(run: Run, records: Sequence[TrialRecord]) -> None:
    """On photographs the estimate of whole networks takes the posterior's place (nas/estimate/accuracy.py)."""
    from nas.estimate.judge import run_judge

    known = [r for r in records if r.config and r.scores and r.outcome == "complete"]
    found = run_judge(run.meta, records).estimate([r.architecture for r in known])
    run.set_attr(POSTERIOR_ATTR, {"steps": run.meta["steps"], "unit": found[0].unit if found else None, "trials": {
        str(record.trial): [round(one.score, 5), round(one.sd, 5)] for record, one in zip(known, found, strict=True)},
        "apart": {str(record.trial): round(one.apart_sd, 5) for record, one in zip(known, found, strict=True)}})


def _confirmed(records: Sequence[TrialRecord], budget_ms: float) -> list[TrialRecord]:
    """What was confirmed and met the budget by its first measurement."""
    return [r for r in records if r.confirmed is not None
            and (r.confirmed["latency_before"] or {}).get("latency_ms", 0.0) <= budget_ms]


def fell_off(records: Sequence[TrialRecord], budget_ms: float) -> list[TrialRecord]:
    """Finalists that are on the front no more, now that they are confirmed."""
    kept = {r.trial for r in front_of(records, budget_ms)}
    return [r for r in _confirmed(records, budget_ms) if not r.preset and r.trial not in kept]


def movement(records: Sequence[TrialRecord], budget_ms: float) -> str:
    """How much confirming moved the front, in words; empty when nothing was confirmed."""
    done = [r for r in _confirmed(records, budget_ms) if not r.preset]
    if not done:
        return ""
    first = np.array([r.score or 0.0 for r in done])
    later = np.array([np.mean([run["score"] for run in (r.confirmed or {})["runs"][1:]]) for r in done])
    ms = np.array([r.latency_ms or np.nan for r in done])
    ms_before = np.array([((r.confirmed or {})["latency_before"] or {}).get("latency_ms", np.nan) for r in done])
    front = front_of(records, budget_ms)
    return (f"confirmed: {sum(r.confirmed is not None for r in front)} of the {len(front)} points of the front; "
            f"{len(done)} finalist{'s' * (len(done) > 1)} with {SEEDS} seeds each; their first scores were "
            f"{_beside(np.mean(first - later), '.3f')} those of the further seeds on average, their first "
            f"latencies {_beside(100 * np.nanmean(ms_before / ms - 1), '.1f', ' %')} those of all "
            f"sessions; the front's hypervolume went from {front_volume(before_confirming(records), budget_ms):.4f} to "
            f"{front_volume(records, budget_ms):.4f}; {len(fell_off(records, budget_ms)) or 'none'} fell off the front")


def _beside(difference: float, digits: str, unit: str = "") -> str:
    return f"{abs(difference):{digits}}{unit} {'above' if difference > 0 else 'below'}"


class Confirmation:
    """The launcher's side: when the search has ended, queue the finalists, and again those who then take a place on
    the front, until every point of it is confirmed or the time is up. Workers read its state from run.json:
    "later" (search), "now" (only the queue), "done" (end when the queue is empty)."""

    ROUNDS = 3

    def __init__(self, run: Run, count: int) -> None:
        self.run, self.count, self.rounds = run, count, 0
        self.measuring: threading.Thread | None = None
        self.trouble = ""
        run.update(confirming="later" if count else None)

    def step(self, *, idle: bool, seconds_left: float | None, workers: int) -> str:
        """Call now and then; `idle` is whether every worker waits. Returns what began, in words, or nothing."""
        if not idle or self.run.meta.get("confirming") in (None, "done") or (
                self.measuring and self.measuring.is_alive()) or self._busy():
            return ""
        update_posterior(self.run)
        records = self.run.records()
        beside = [r for r in references(records) if r.confirmed is None]
        chosen = [] if self.rounds >= self.ROUNDS else finalists(
            records, self.run.meta["budget_ms"], self._affordable(records, beside, seconds_left, workers))
        if not chosen:
            self.run.update(confirming="done")
            return ""
        self.rounds += 1
        enqueue(self.run, list({r.trial: r for r in (*beside, *chosen)}.values()))
        self.measuring = threading.Thread(target=self._measure, args=(chosen,), daemon=True)
        self.measuring.start()
        self.run.update(confirming="now")
        points = "1 point" if len(chosen) == 1 else f"{len(chosen)} points"
        return f"confirming {points} of the front: {SEEDS - 1} more seeds each, latencies measured again"

    def _affordable(self, records: Sequence[TrialRecord], beside: Sequence[TrialRecord], seconds_left: float | None,
                    workers: int) -> int:
        spent = [r.cost_s["proxy"] for r in records if r.outcome == "complete" and r.cost_s.get("proxy")]
        if seconds_left is None or not spent:
            return self.count
        trained = sum(r.score_origin != "shipped" for r in beside)
        left = seconds_left * workers - parents_seconds(self.run.meta)
        return max(0, min(self.count, int(left / float(np.median(spent))) // (SEEDS - 1) - trained))

    def _busy(self) -> bool:
        from optuna.trial import TrialState

        return bool(self.run.study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))

    def finish(self, limit_s: float = 30.0) -> None:
        """Wait for the measurement that is under way, so that the report holds it."""
        if self.measuring is not None:
            self.measuring.join(limit_s)

    def _measure(self, chosen: Sequence[TrialRecord]) -> None:
        try:
            measure_again(self.run, chosen, self.run.meta.get("deadline"))
        except Exception as error:  # the earlier measurements stand
            self.trouble = f"finalists could not be measured again: {error}"
