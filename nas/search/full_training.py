"""The last phase of a run on a user's images: the finalists are trained at full width, and the presets beside them.

Each training is a trial of its own in the study, with the attribute `trains`: it is claimed, killed, tried again and
recorded like every other. All of a run are by one recipe (nas/proxy/full_recipe.py), kept in the run's `training`, so
that their top-1 compare; the weights stay in the run.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nas.proxy.full_recipe import FINISH_SHARE, FullRecipe
from nas.runs.meta import ConfirmationState
from nas.runs.studies import waiting_trials
from nas.runs.trial import Request, Trial
from nas.search.confirmation import measure_again, update_posterior
from nas.search.confirmed import LATENCY_ATTR, search_trials
from nas.search.front import eligible
from nas.search.full_plan import FINALISTS, FullPlan, candidates, plan

if TYPE_CHECKING:
    from nas.runs.run import Run

RECIPE_ATTR = "training"  # of the study: how the run's networks are trained at full width

SHARE = 0.5  # of a run's minutes: networks that the user takes home are half of what a run is for
ROUNDS = 3
MEASURING_SHARE = 0.15  # of the time that is left, at most, for measuring candidates again
MARGIN = 0.9  # of the time that is left is planned for; the rest is judging, and what the estimate of costs is off


def estimates(run: Run, found: Sequence[Trial]) -> dict[int, float]:
    """What each trial's configuration is estimated to be worth on the run's images, less the doubt that is its own:
    as proposals see it."""
    from nas.estimate.judge import run_judge
    from nas.search.proposer import RISK

    judged = run_judge(run.meta, search_trials(run)).estimate([r.architecture for r in found])
    return {r.trial: one.score - RISK * one.apart_sd for r, one in zip(found, judged, strict=True)}


class FullTraining:
    """The launcher's side. Workers read its state from run.json as they do nas.search.confirmation.Confirmation's:
    "later" (search), "now" (only the queue), "done" (end when the queue is empty).

    Args:
        count: networks that are trained, at most; 0: none.
        images: that each of them sees; None: as many as the time allows.
        unfinished: the search has ended already, and only what waits in the queue is left.
    """

    def __init__(self, run: Run, count: int | None = None, images: int | None = None, *,
                 unfinished: bool = False) -> None:
        self.run, self.count, self.images, self.rounds = run, FINALISTS if count is None else count, images, 0
        self.preparing: threading.Thread | None = None
        self.trouble = ""
        self._said: list[str] = []
        self._announced = {r.trial for r in run.trials() if r.trains is not None and r.outcome.is_finished}
        run.update(confirming=ConfirmationState.NOW if unfinished else ConfirmationState.LATER if self.count else None)

    def step(self, *, idle: bool, seconds_left: float | None, workers: int) -> str:
        """Call now and then; `idle` is whether every worker waits. Returns what happened, in words, or nothing."""
        self._said += self._news()
        if self._said:
            return self._said.pop(0)
        if (not idle or self.run.progress.confirming in (None, ConfirmationState.DONE)
                or (self.preparing and self.preparing.is_alive()) or self._busy()):
            return ""
        if self.rounds >= ROUNDS:
            self.run.update(confirming=ConfirmationState.DONE)
            return ""
        self.rounds += 1
        self.preparing = threading.Thread(target=self._prepare, args=(seconds_left, workers), daemon=True)
        self.preparing.start()
        return ("the search has ended; the finalists and the presets under the budget are measured side by side"
                if self.rounds == 1 else "")

    def finish(self, limit_s: float = 30.0) -> None:
        """Wait for what is being measured, so that the report holds it."""
        if self.preparing is not None:
            self.preparing.join(limit_s)

    def _busy(self) -> bool:
        from optuna.trial import TrialState

        return bool(self.run.study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))

    def _news(self) -> list[str]:
        found, trials = [], self.run.trials()
        names = {t.trial: t.preset.upper() for t in trials if t.preset}
        for record in trials:
            if record.trains is None or not record.outcome.is_finished or record.trial in self._announced:
                continue
            self._announced.add(record.trial)
            if record.retried:
                continue
            name = names.get(record.trains) or f"trial {record.trains}"
            if (trained := record.full) is None:
                found.append(f"{name} could not be trained at full width: {record.reason}")
                continue
            low, high = trained.interval()
            found.append(f"{name} trained at full width: top-1 {100 * trained.top1:.1f} % [{100 * low:.1f}, "
                         f"{100 * high:.1f}] on {trained.held_out}")
        return found

    def _prepare(self, seconds_left: float | None, workers: int) -> None:
        try:
            chosen = self._planned(seconds_left, workers)
        except Exception as error:  # what was searched and trained before stands
            self.trouble = f"no network was trained at full width: {error}"
            chosen = None
        if chosen is None:
            self.run.update(confirming=ConfirmationState.DONE)
            return
        made, recipe = chosen
        self.run.set_attr(RECIPE_ATTR, recipe.to_dict())
        enqueue(self.run, made.trials, recipe)
        minutes = max(1, round(made.seconds / 60))
        self._said.append(
            f"{len(made.trials)} networks are trained at full width, {made.images:,} images each at {made.pixels} px"
            + (f" (the last {FINISH_SHARE:.0%} at {recipe.resolution} px)" if made.pixels < recipe.resolution else "")
            + f": about {minutes} minute{'s' * (minutes != 1)}")
        self.run.update(confirming=ConfirmationState.NOW)

    def _planned(self, seconds_left: float | None, workers: int) -> tuple[FullPlan, FullRecipe] | None:
        """What is trained now, and how; None when nothing is left that the time would do."""
        from nas.data import load_task

        run, meta, begun_at = self.run, self.run.meta, time.monotonic()
        if seconds_left is None and self.images is None:
            return None
        update_posterior(run)
        records = search_trials(run)
        tried = {r.trains for r in run.trials() if r.trains is not None and r.outcome.is_finished
                 and not r.retried}
        known = {r.config_key for r in records if r.trial in tried}
        budgets = meta.budgets

        def under(found: Sequence[Trial]) -> dict[float, set[int]]:
            return {budget: {r.trial for r in found if eligible(r, budget)} for budget in budgets}

        found = [r for r in records if r.config_key not in known and eligible(r, max(budgets))]
        if not found:
            return None
        score = estimates(run, found)
        wanted = candidates(found, budgets, score, under(found))[:self.count + 2]
        fresh = run.attrs().get(LATENCY_ATTR, {})
        by_trial = {r.trial: r for r in found}
        if missing := [by_trial[t] for t in wanted if by_trial[t].config_key not in fresh]:
            left = math.inf if seconds_left is None else MEASURING_SHARE * seconds_left
            measure_again(run, missing, time.monotonic() + left)
            again = [r for r in search_trials(run) if r.trial in by_trial]
            wanted = candidates(again, budgets, score, under(again))[:self.count + 2]
            by_trial = {r.trial: r for r in again}
        begun = len(tried)
        earlier = FullRecipe.from_dict(stored) if (stored := run.attrs().get(RECIPE_ATTR)) else None
        task = load_task(meta.task, resolution=meta.resolution, seed=meta.seed)
        cost, got = self._costs([by_trial[t] for t in wanted], task.num_classes, meta.resolution)
        made = plan(wanted, cost, seconds=self._planned_for(seconds_left, begun_at) * got,
                    workers=workers, resolution=meta.resolution, epoch_images=len(task.train),
                    most=max(0, self.count - begun), images=earlier.images if earlier else self.images,
                    pixels=earlier.pixels if earlier else (meta.resolution if seconds_left is None else None))
        if made is None:
            if not begun:
                self.trouble = ("the time is too short to train networks at full width, so the front holds estimates "
                                "alone; give more --minutes or a smaller --resolution, or train one: `search.py train`")
            return None
        recipe = earlier or FullRecipe(made.images, meta.resolution, made.pixels, meta.seed)
        return made, recipe

    @staticmethod
    def _planned_for(seconds_left: float | None, begun_at: float) -> float:
        """Seconds that trainings may take, of those that were left at `begun_at`."""
        return math.inf if seconds_left is None else MARGIN * max(0.0, seconds_left - (time.monotonic() - begun_at))

    def _costs(self, found: Sequence[Trial], num_classes: int, resolution: int
               ) -> tuple[dict[int, float], float]:
        """Seconds of training for an image by trial, and the share of a CPU that a process gets here."""
        from nas.proxy.full import seconds_per_image

        with _one_thread():
            rows = {r.trial: seconds_per_image(r.architecture, num_classes, resolution) for r in found}
        shares = [share for _, share in rows.values()]
        return {trial: spent for trial, (spent, _) in rows.items()}, sum(shares) / len(shares)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """As workers train."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def waiting_to_train(run: Run) -> int:
    """How many full-width trainings wait in the queue."""
    return sum(Request.read(trial.user_attrs).trains is not None for trial in waiting_trials(run.study))


def enqueue(run: Run, trials: Sequence[int], recipe: FullRecipe) -> int:
    """Put the full-width training of those trials in the study's queue, unless it is there; how many."""
    begun = {Request.read(t.user_attrs).trains for t in waiting_trials(run.study)}
    begun |= {r.trains for r in run.trials() if r.trains is not None and not r.retried}
    configs = {r.trial: r.config for r in search_trials(run)}
    count = 0
    for trial in trials:
        if trial not in begun:
            asked = Request(trains=trial, seed=recipe.seed, config=configs[trial], recipe=recipe.to_dict())
            run.study.enqueue_trial({}, user_attrs=asked.to_attrs())
            count += 1
    return count
