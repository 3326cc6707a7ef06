"""What becomes of one trial: ruled out by a prediction, measured, trained rung by rung; each result stored at once."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas import quiet
from nas.addresses import hide
from nas.data import DRAWN
from nas.errors import DeviceGone, Failure
from nas.latency.predictor import Predictor
from nas.proxy.recipe import rungs
from nas.runs.budget import is_over_budget
from nas.runs.measurement import Origin
from nas.runs.run import Run
from nas.runs.storage import StorageGone
from nas.runs.trained import Trained
from nas.runs.trial import Outcome, Request, Rung, ScoreOrigin, Trial, with_rung
from nas.search.confirmed import search_trials
from nas.search.early_stopping import dominated
from nas.search.feasibility import over_limits, surely_over
from nas.search.proposer import Proposer
from nas.workers.evaluator import Evaluator
from nas.workers.liveness import checkpoint_path, full_checkpoint_path

if TYPE_CHECKING:
    import optuna

    from nas.proxy.train import ProxyResult

NOTICED_S = 1.0  # waiting for the parent of all proxies stands apart in a trial's cost from here on
_ENDED = (Outcome.COMPLETE, Outcome.OVER_BUDGET, Outcome.STOPPED_EARLY)


class Attempt:
    """One trial of the study while its worker evaluates it; `found` is what is known of it so far."""

    def __init__(self, trial: optuna.Trial, worker: str) -> None:
        self.trial = trial
        self.found = Trial(trial.number, worker=worker)

    def store(self, found: Trial) -> Trial:
        """Keep what is known now where a successor finds it, should this worker die."""
        self.found = found
        self.trial.set_user_attr("record", found.to_record())
        return found


class TrialRunner:
    """Evaluates trials of one run, with one worker's evaluator, predictor and proposer (whose surrogate it shares)."""

    def __init__(self, run: Run, worker: str, evaluator: Evaluator, predictor: Predictor, proposer: Proposer,
                 should_stop: Callable[[], bool]) -> None:
        self.run, self.worker, self.evaluator = run, worker, evaluator
        self.predictor, self.proposer, self.should_stop = predictor, proposer, should_stop
        self._shipped: dict[int, dict[str, dict[int, dict]]] = {}

    def result(self, trial: optuna.Trial) -> Trial:
        """The trial as it ended. Whatever goes wrong is part of that, unless it is no fault of the trial.

        Raises:
            StorageGone, DeviceGone: the trial stays unfinished and is tried again later.
        """
        attempt = Attempt(trial, self.worker)
        try:
            return self._evaluated(attempt, Request.read(trial.user_attrs))
        except (StorageGone, DeviceGone):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageGone(f"{self.run.path} cannot be written: {error.strerror}; free some space, then "
                                  f"`search.py resume {self.run.path}`") from error
            reason = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
            return replace(attempt.found, outcome=Outcome.FAILED, score=None, score_sd=None,
                           reason=hide(reason).splitlines()[0][:500] if reason else "unknown",
                           traceback=hide("".join(traceback.format_exc()))[-4000:])

    def _evaluated(self, attempt: Attempt, request: Request) -> Trial:
        """Latency first, because it needs no trained weights; the score only of what meets the budget."""
        if request.timm is not None:
            return self.measured_model(attempt.store(attempt.found), request.timm)
        begun = attempt.store(self.begun(attempt, request))
        if request.trains is not None:
            return self.trained_full(attempt, begun, request)
        if request.confirms is not None:
            return self.trained(attempt, begun, may_stop=False)
        if not request.always_measured and (ruled_out := self.gated(begun)) is not None:
            return ruled_out
        measured = attempt.store(self.measured(begun))
        if (known := self.with_shipped_score(measured)) is not None:
            return known
        assert measured.latency is not None
        if is_over_budget(measured.latency.ci_low_ms, self.run.meta.budget_ms):
            return replace(measured, outcome=Outcome.OVER_BUDGET,
                           reason=f"measured at {measured.latency_ms:.3f} ms")
        return self.trained(attempt, measured, may_stop=self.run.meta.task in DRAWN and not request.always_measured)

    def begun(self, attempt: Attempt, request: Request) -> Trial:
        """The trial with its configuration, the size of that, and the rungs that a dead worker left."""
        meta, trial = self.run.meta, attempt.found
        config = request.config or self._proposed(attempt) or self.proposer.space.suggest(attempt.trial)
        size = cost(config, meta.resolution, num_classes=meta.num_classes)
        return replace(trial, config=config, params_m=size.params_m, gmacs=size.gmacs, scores=request.scores,
                       trains=request.trains, seed=meta.seed if request.seed is None else request.seed)

    def _proposed(self, attempt: Attempt) -> FastViTConfig | None:
        """The configuration that this worker has proposed in this trial."""
        found = attempt.trial.user_attrs.get("record", {}).get("config")
        return None if found is None else FastViTConfig.from_dict(found)

    def gated(self, trial: Trial) -> Trial | None:
        """The trial as it ends when it need not be measured: evaluated before, or predicted over the budget beyond
        doubt; None when it is to be measured."""
        if (other := self.earlier(trial)) is not None:
            return replace(trial, outcome=other.outcome, reason=f"the same as trial {other.trial}",
                           reused_from=other.trial, latency=other.latency, score=other.score, score_sd=other.score_sd,
                           scores=other.scores, curve=other.curve)
        if beyond := over_limits(self.run.meta, trial.architecture):
            return replace(trial, outcome=Outcome.OVER_BUDGET, reason=beyond)
        predicted = surely_over(self.predictor, trial.architecture, self.run.meta.budget_ms)
        if predicted is None:
            return None
        return replace(trial, outcome=Outcome.OVER_BUDGET, reason=f"predicted at {predicted:.2f} ms",
                       predicted_ms=predicted)

    def earlier(self, trial: Trial) -> Trial | None:
        """Another trial of the same configuration that has ended; one that began earlier is waited for."""
        while True:
            others = [t for t in search_trials(self.run) if t.config_key == trial.config_key and t.trial != trial.trial]
            for other in others:
                if other.outcome in _ENDED and other.origin == Origin.MEASURED:
                    return other
            if self.should_stop() or not any(t.outcome == Outcome.RUNNING and t.trial < trial.trial for t in others):
                return None
            time.sleep(0.5)

    def measured(self, trial: Trial) -> Trial:
        """The trial with its latency on the device."""
        begun = time.perf_counter()
        latency = self.evaluator.measure(trial.architecture)
        return replace(trial, latency=latency, cost_s=trial.cost_s | {"latency": time.perf_counter() - begun})

    def measured_model(self, trial: Trial, name: str) -> Trial:
        """A model of timm beside the front: its latency alone, for its score would take its own training."""
        from nas.latency.network import Network

        begun = time.perf_counter()
        latency = self.evaluator.measure(name)
        params_m, gmacs = Network.of(name).counted(self.run.meta.resolution)
        return replace(trial, outcome=Outcome.COMPLETE, anchor=name, latency=latency, params_m=params_m, gmacs=gmacs,
                       cost_s={"latency": time.perf_counter() - begun})

    def with_shipped_score(self, trial: Trial) -> Trial | None:
        """The trial with the score that ships with the package for these images, this seed and these steps; or None."""
        seed, steps = trial.seed or 0, self.run.meta.steps
        if seed not in self._shipped:
            self._shipped[seed] = self.evaluator.shipped(seed)
        rows = self._shipped[seed].get(trial.config_key or "", {})
        if not all(rung in rows for rung in rungs(steps)):
            return None
        row = rows[steps]
        return replace(trial, outcome=Outcome.COMPLETE, score_origin=ScoreOrigin.SHIPPED, score=row["score"],
                       score_sd=row["score_sd"], parts=row["parts"], scores=tuple(
                           Rung(step, rows[step]["score"], rows[step]["score_sd"], rows[step].get("cpu_seconds"))
                           for step in rungs(steps)))

    def trained(self, attempt: Attempt, trial: Trial, *, may_stop: bool) -> Trial:
        """Score a configuration rung by rung; what every rung found is stored before the next one begins."""
        if (known := self.with_shipped_score(trial)) is not None:
            return known
        config, seed = trial.architecture, trial.seed or 0
        waited = time.perf_counter()
        self.evaluator.prepare(seed)
        begun, paused = time.perf_counter(), quiet.paused_s()
        cost_s = trial.cost_s | ({"parent": begun - waited} if begun - waited > NOTICED_S else {})
        checkpoint = checkpoint_path(self.run, config.key(), seed)
        stopped = ""

        def on_rung(result: ProxyResult) -> bool:
            nonlocal stopped
            known = attempt.store(with_rung(attempt.found, finite_rung(result)))
            if may_stop:
                stopped = dominated(known, search_trials(self.run), self.proposer.surrogate, self.proposer.prior)
            return bool(stopped)

        attempt.store(replace(trial, cost_s=cost_s))
        result = self.evaluator.score(config, seed=seed, checkpoint=checkpoint, on_rung=on_rung)
        last = finite_rung(result)
        self.evaluator.keep(checkpoint, trial.trial)
        paused_s = quiet.paused_s() - paused  # while others were measured
        found = with_rung(attempt.found, last)
        return replace(found, outcome=Outcome.STOPPED_EARLY if stopped else Outcome.COMPLETE, reason=stopped or None,
                       score=last.score, score_sd=last.score_sd, parts=result.parts, curve=tuple(result.curve),
                       scores=tuple(rung for rung in found.scores if rung.step <= last.step),
                       score_origin=ScoreOrigin.TRAINED,
                       cost_s=cost_s | {"paused": paused_s, "proxy": time.perf_counter() - begun - paused_s})


    def trained_full(self, attempt: Attempt, trial: Trial, request: Request) -> Trial:
        """Train a finalist at full width, and keep its weights."""
        from nas.proxy.full_recipe import BATCH, FullRecipe
        from nas.proxy.keep import full_weights_path

        begun, config = time.perf_counter(), trial.architecture
        recipe = FullRecipe.from_dict(request.recipe or {})

        def on_rung(step: int, top1: float, sd: float) -> None:
            attempt.store(with_rung(attempt.found, Rung(step, top1, sd)))

        result = self.evaluator.train_full(
            config, recipe=recipe, checkpoint=full_checkpoint_path(self.run, config.key(), trial.seed or 0),
            weights=full_weights_path(self.run.path, request.trains or 0), on_rung=on_rung)
        full = Trained(trial.trial, result.hits, result.images, result.held_out, BATCH * recipe.steps,
                       recipe.resolution, recipe.pixels, result.started_from, result.cpu_s, recipe.to_dict())
        return replace(attempt.found, outcome=Outcome.COMPLETE, score=full.top1, score_sd=full.sd, full=full,
                       curve=tuple(result.curve), score_origin=ScoreOrigin.TRAINED,
                       cost_s=trial.cost_s | {"training": time.perf_counter() - begun})


def finite_rung(result: ProxyResult) -> Rung:
    """What a proxy reached, as a rung.

    Raises:
        Failure: the score or its error is no number, with which nothing can be compared.
    """
    if not (math.isfinite(result.score) and math.isfinite(result.score_sd)):
        raise Failure(f"training diverged: the score after {result.steps} steps is {result.score} ± {result.score_sd}, "
                      "which is no number")
    return Rung(result.steps, result.score, result.score_sd, result.seconds)


