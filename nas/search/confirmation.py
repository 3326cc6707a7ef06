"""Finalists: trained again with other seeds, from other parents, and measured again in sessions of their own.

The best of many noisy scores is too good to be true (the winner's curse), so the points of a front are confirmed
before they are reported. Each further seed is a trial of its own in the study, with the attribute `confirms`: it is
claimed, killed, tried again and recorded like every other, on whatever machine has a worker free. Presets that have a
score are trained again too: nobody chose them for it, so they tell how far a parent lifts all scores.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas.data import DRAWN
from nas.runs.meta import ConfirmationState, RunMeta
from nas.runs.studies import waiting_trials
from nas.runs.trial import Outcome, Request, ScoreOrigin, Trial
from nas.search.confirmed import LATENCY_ATTR, POSTERIOR_ATTR, SEEDS, references, search_trials
from nas.search.feasibility import within_limits
from nas.search.front import axes, front_of
from nas.search.pareto import hypervolume

if TYPE_CHECKING:
    from nas.runs.run import Run, Trial

SHARE = 0.3  # of a run's minutes that are kept for confirming
FINALISTS = 8


def finalists(records: Sequence[Trial], budget_ms: float, count: int) -> list[Trial]:
    """The points of the front that are not confirmed yet, those first which add most hypervolume; at most `count`."""
    front = front_of(records, budget_ms)

    def without(record: Trial) -> float:
        return hypervolume(*axes([r for r in front if r is not record]), budget_ms=budget_ms)

    return sorted((r for r in front if r.confirmed is None), key=without)[:count]


def enqueue(run: Run, chosen: Sequence[Trial]) -> int:
    """Put the missing seeds of `chosen` in the study's queue, all of one before those of the next, so that two workers
    train two parents instead of waiting for one; how many."""
    begun = {(t.confirms, t.seed) for t in run.trials() if t.confirms is not None and t.outcome != Outcome.FAILED}
    waiting = [Request.read(trial.user_attrs) for trial in waiting_trials(run.study)]
    begun |= {(request.confirms, request.seed) for request in waiting if request.confirms is not None}
    count = 0
    for trial in chosen:
        for seed in further_seeds(run.meta):
            if (trial.trial, seed) not in begun:
                asked = Request(confirms=trial.trial, seed=seed, config=trial.config)
                run.study.enqueue_trial({}, user_attrs=asked.to_attrs())
                count += 1
    return count


def further_seeds(meta: RunMeta) -> range:
    return range(meta.seed + 1, meta.seed + SEEDS)


def parents_seconds(meta: RunMeta) -> float:
    """About how long the parents take, of CPU, that confirming this run still has to train."""
    from nas.proxy.parent import SECONDS, STEPS, parent_path, parent_steps

    missing = [seed for seed in further_seeds(meta)
               if not parent_path(meta.task_fingerprint, meta.steps, seed).exists()]
    return SECONDS * parent_steps(meta.steps) / STEPS * len(missing)


def measure_again(run: Run, chosen: Sequence[Trial], until: float = math.inf) -> None:
    """Measure finalists and their nearest presets once more, each in a session of its own, and keep each with the study
    as soon as it is known; none is begun after `until` (by time.monotonic).

    Raises:
        Failure, NotAvailable: as nas.latency.measure; what was measured before stays.
    """
    from fastvit.difference import nearest_preset
    from fastvit.presets import PRESETS
    from nas.latency import measure

    configs = {t.config_key: t.config for t in chosen if t.config is not None}
    for config in list(configs.values()):
        preset = PRESETS[nearest_preset(config)]
        configs.setdefault(preset.key(), preset)
    for key, config in configs.items():
        if time.monotonic() > until:
            return
        found = measure(config, run.meta.device, resolution=run.meta.resolution, precision=run.meta.precision,
                        fresh=True)
        known = run.attrs().get(LATENCY_ATTR, {})
        before = known.get(key, [])
        run.set_attr(LATENCY_ATTR, known | {key: [*(before if isinstance(before, list) else [before]),
                                                  found.to_dict() | {"samples": {}}]})


def update_posterior(run: Run) -> None:
    """Fit the run's posterior (nas/estimate/posterior.py) and keep it with the study, unless there are too few
    trials."""
    from nas.estimate.long_run import population, z_scores
    from nas.estimate.posterior import fit_posterior

    trials = search_trials(run)
    if run.meta.task not in DRAWN:
        _update_estimates(run, trials)
        return
    fitted = fit_posterior(run.meta, trials)
    known = [t for t in trials if t.config and t.scores and t.outcome in (Outcome.COMPLETE, Outcome.STOPPED_EARLY)]
    if not fitted.ready or not known:  # what ships may be enough to fit, and the run have no score yet
        return
    configs = [t.architecture for t in known]
    mean, sd = fitted.predict(configs)
    values = np.column_stack([mean, sd, z_scores(fitted.model, configs, population())]).round(5).tolist()
    run.set_attr(POSTERIOR_ATTR, {"steps": run.meta.steps, "noise_sd": round(fitted.model.noise_sd, 5), "trials": {
        str(trial.trial): value for trial, value in zip(known, values, strict=True)}} | fitted.kept)


def _update_estimates(run: Run, trials: Sequence[Trial]) -> None:
    """On photographs the estimate of whole networks takes the posterior's place (nas/estimate/accuracy.py)."""
    from nas.estimate.judge import run_judge

    known = [t for t in trials if t.config and t.scores and t.outcome == Outcome.COMPLETE]
    if not known:
        return
    found = run_judge(run.meta, trials).estimate([t.architecture for t in known])
    run.set_attr(POSTERIOR_ATTR, {"steps": run.meta.steps, "unit": found[0].unit if found else None, "trials": {
        str(trial.trial): [round(one.score, 5), round(one.sd, 5)] for trial, one in zip(known, found, strict=True)},
        "apart": {str(trial.trial): round(one.apart_sd, 5) for trial, one in zip(known, found, strict=True)}})


class Confirmation:
    """The launcher's side: when the search has ended, queue the finalists, and again those who then take a place on
    the front, until every point of it is confirmed or the time is up. Workers read its state from run.json:
    "later" (search), "now" (only the queue), "done" (end when the queue is empty)."""

    ROUNDS = 3

    def __init__(self, run: Run, count: int) -> None:
        self.run, self.count, self.rounds = run, count, 0
        self.measuring: threading.Thread | None = None
        self.trouble = ""
        run.update(confirming=ConfirmationState.LATER if count else None)

    def step(self, *, idle: bool, seconds_left: float | None, workers: int) -> str:
        """Call now and then; `idle` is whether every worker waits. Returns what began, in words, or nothing."""
        if not idle or self.run.progress.confirming in (None, ConfirmationState.DONE) or (
                self.measuring and self.measuring.is_alive()) or self._busy():
            return ""
        update_posterior(self.run)
        records = search_trials(self.run)
        beside = [r for r in references(records) if r.confirmed is None]
        allowed = [t for t in records if within_limits(self.run.meta, t)]
        chosen = [] if self.rounds >= self.ROUNDS else finalists(
            allowed, self.run.meta.budget_ms, self._affordable(records, beside, seconds_left, workers))
        if not chosen:
            self.run.update(confirming=ConfirmationState.DONE)
            return ""
        self.rounds += 1
        enqueue(self.run, list({r.trial: r for r in (*beside, *chosen)}.values()))
        until = math.inf if seconds_left is None else time.monotonic() + seconds_left
        self.measuring = threading.Thread(target=self._measure, args=(chosen, until), daemon=True)
        self.measuring.start()
        self.run.update(confirming=ConfirmationState.NOW)
        points = "1 point" if len(chosen) == 1 else f"{len(chosen)} points"
        return f"confirming {points} of the front: {SEEDS - 1} more seeds each, latencies measured again"

    def _affordable(self, records: Sequence[Trial], beside: Sequence[Trial], seconds_left: float | None,
                    workers: int) -> int:
        spent = [r.cost_s["proxy"] for r in records if r.outcome == Outcome.COMPLETE and r.cost_s.get("proxy")]
        if seconds_left is None or not spent:
            return self.count
        trained = sum(r.score_origin != ScoreOrigin.SHIPPED for r in beside)
        left = seconds_left * workers - parents_seconds(self.run.meta)
        return max(0, min(self.count, int(left / float(np.median(spent))) // (SEEDS - 1) - trained))

    def _busy(self) -> bool:
        from optuna.trial import TrialState

        return bool(self.run.study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))

    def finish(self, limit_s: float = 30.0) -> None:
        """Wait for the measurement that is under way, so that the report holds it; `trouble` says when it does not."""
        if self.measuring is not None:
            self.measuring.join(limit_s)
            if self.measuring.is_alive():
                self.trouble = (f"a finalist's second measurement did not end within {limit_s:g} s of the run's end: "
                                "it is not in the report, those before it are")

    def _measure(self, chosen: Sequence[Trial], until: float) -> None:
        try:
            measure_again(self.run, chosen, until)
        except Exception as error:  # the earlier measurements stand
            self.trouble = f"finalists could not be measured again: {error}"
