"""One worker of a run: ask for a configuration, gate it by latency, score it, record it; until told to stop."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from nas import quiet
from nas.data import DRAWN
from nas.errors import DeviceGone, Failure
from nas.estimate.judge import run_judge
from nas.estimate.surrogate import shipped_evidence
from nas.latency.predictor import Predictor
from nas.latency.runtime import Setting
from nas.runs.run import Run, TrialRecord
from nas.runs.storage import StorageGone, without_secrets
from nas.search.confirmation import waiting_trials
from nas.search.early_stopping import dominated
from nas.search.proposer import STARTUP_TRIALS, Proposer
from nas.workers.evaluator import Evaluation, Real
from nas.workers.liveness import Pulse, checkpoint_path, drop_checkpoint, worker_name
from space import SearchSpace

if TYPE_CHECKING:
    import optuna

    from nas.proxy.train import ProxyResult

FAR_OVER = 1.3  # the smallest configuration beyond this share of the budget: nothing is within reach
DOUBT = 2.0  # standard deviations of a prediction: what is over the budget even so is not measured
NOTICED_S = 1.0  # waiting for the parent of all proxies stands apart in a trial's cost from here on
HOPELESS = 100  # predicted over budget in a row: the sampler finds nothing more under this budget


SAMPLERS = ("surrogate", "tpe", "nsga2", "random")


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of that name; under "surrogate" it only fills in when there is nothing to propose."""
    import warnings

    import optuna

    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed,
                                          n_startup_trials=STARTUP_TRIALS)
    return optuna.samplers.RandomSampler(seed=seed)


class Worker:
    """Evaluates trials of one run in this process. Everything it knows of others, it reads from the storage."""

    def __init__(self, run: Run, name: str, evaluation: Evaluation | None = None) -> None:
        import optuna

        self.run, self.name, self.meta = run, name, run.meta
        self.space = SearchSpace.from_toml(self.meta["space"]["toml"])
        self.evaluation = evaluation or Real(run)
        self.ended = threading.Event()  # this worker alone is to end; the run goes on
        self.shipped: dict[int, dict[str, dict[int, dict[str, Any]]]] = {}
        # Workers must not draw alike; the run's seed and the worker's own number decide.
        offset = int.from_bytes(name.encode(), "big") % 99991
        seed = (self.meta["seed"] * 100_003 + offset) % 2**32
        self.rng = np.random.default_rng(seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.load_study(study_name=self.meta["id"], storage=run.storage,
                                       sampler=sampler(self.meta.get("sampler", "surrogate"), seed))
        # On drawn tasks short runs rank long ones; on photographs they say too little to be followed alone.
        self.photographs = self.meta["task"] not in DRAWN
        self.proposer = Proposer(self.space, self.meta["steps"], self.budget_ms, self.rng,
                                 prior=shipped_evidence(self.meta["task_fingerprint"]),
                                 judge=partial(run_judge, self.meta) if self.photographs else None)
        # Calibrated on this machine or empty (a simulation has other latencies); it learns from what the run measures.
        self.predictor = (Predictor.of_run(self.meta["device"], self.meta["resolution"]) if evaluation is None
                          else Predictor(self.meta["device"], Setting(self.meta["resolution"])))
        self.hopeless = 0
        self.free_since = time.perf_counter()
        self.proposing_s = 0.0

    @property
    def budget_ms(self) -> float:
        return float(self.meta["budget_ms"])

    def records(self) -> list[TrialRecord]:
        return self.run.records()

    def should_stop(self) -> bool:
        """Told to stop, or out of time for one more trial."""
        self.meta = self.run.refresh()
        return self.ended.is_set() or self.run.told_to_stop() or self._too_late("deadline", self.records())

    def _too_late(self, limit: str, records: list[TrialRecord]) -> bool:
        if (deadline := self.meta.get(limit)) is None:
            return False
        spent = [sum(seconds for part, seconds in r.cost_s.items() if part != "parent")  # which is paid once
                 for r in records if r.score is not None and r.cost_s.get("proxy")]
        return time.time() + (float(np.median(spent)) if spent else 0.0) > deadline

    def searched_enough(self, records: list[TrialRecord]) -> bool:
        """Whether what is left of the run is for confirming: time, trials, or nothing more within the budget."""
        if self.hopeless >= HOPELESS or self._too_late("search_deadline", records):
            return True
        if (limit := self.meta.get("trial_limit")) is not None:
            return sum(r.counted for r in records) >= limit
        return False

    def loop(self) -> None:
        """Search until that is enough, then take what waits in the queue until the launcher says `confirmed`."""
        idle = idle_path(self.run, self.name)
        while not self.should_stop():
            records = self.records()
            self.predictor.update(records)
            if self.meta.get("confirming") in (None, "later") and not self.searched_enough(records):
                if self.out_of_reach(records):
                    return
                self.run_trial(self.propose(records) or self.study.ask())
            elif (trial := self.next_waiting()) is not None:
                idle.unlink(missing_ok=True)
                self.run_trial(trial)
            elif self.meta.get("confirming") in (None, "done"):
                return
            else:
                idle.touch()
                time.sleep(0.5)
                self.free_since = time.perf_counter()

    def next_waiting(self) -> optuna.Trial | None:
        """A trial from the queue, claimed as `ask` claims it; None when the queue is empty, where `ask` would draw."""
        import optuna

        for waiting in waiting_trials(self.run):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                if self.run.storage.set_trial_state_values(waiting._trial_id, optuna.trial.TrialState.RUNNING):
                    return optuna.Trial(self.study, waiting._trial_id)
        return None

    def out_of_reach(self, records: list[TrialRecord]) -> bool:
        """Whether even the smallest configuration is far over the budget; it is measured once, as the nearest miss."""
        if any(r.origin == "measured" and r.latency_ms and r.latency_ms <= self.budget_ms for r in records):
            return False
        smallest, _ = self.space.corners()
        if self.surely_over(smallest) is None:
            return False
        if any(r.config_key == smallest.key() for r in records):
            return not any(r.latency_ms and r.latency_ms <= FAR_OVER * self.budget_ms for r in records)
        self.space.enqueue(self.study, smallest, {"probe": True})
        return False

    def propose(self, records: list[TrialRecord]) -> optuna.Trial | None:
        """Begin a trial, unless something waits in the queue or Optuna's sampler is to decide."""
        if waiting_trials(self.run) or not self.predictor.ready:
            return None
        since = time.perf_counter()
        known = {r.config_key for r in records if r.config_key}
        # A run that serves several budgets looks under each of them in turn.
        self.proposer.budget_ms = float(self.rng.choice(self.meta.get("budgets") or [self.budget_ms]))
        if self.meta.get("sampler", "surrogate") == "surrogate":
            with quiet.training():  # fitting keeps a core as busy as training does
                config = self.proposer.next(records, self.predict_ms)
        else:
            begun = [r for r in records if r.outcome in ("complete", "stopped_early", "running")
                     and not (r.preset or r.anchor)]
            config = self.proposer.random(self.predict_ms, known) if len(begun) < STARTUP_TRIALS else None
        self.proposing_s = time.perf_counter() - since
        # Signed from the start: a kill from here on leaves a trial that is known to be this worker's.
        if config is None:
            return None
        learns = self.meta.get("sampler") in ("tpe", "nsga2")
        return self.space.begin(self.study, config, {"config": config.to_dict(), "record": {
            "worker": self.name, "outcome": "running", "config": config.to_dict(), "config_key": config.key()}},
            params=learns or not self.run.shared)

    def predict_ms(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        return self.predictor.predict(configs)[0]

    def surely_over(self, config: FastViTConfig) -> float | None:
        """The predicted latency of a configuration that is over the budget by more than the prediction may err."""
        ms, sd = (float(values[0]) for values in self.predictor.predict([config]))
        return ms if ms - DOUBT * sd > self.budget_ms else None

    def run_trial(self, trial: optuna.Trial) -> None:
        """Evaluate one trial and tell its result; whatever goes wrong is the trial's record, not the worker's end."""
        from optuna.trial import TrialState

        record: dict[str, Any] = {"worker": self.name, "outcome": "running"}
        try:
            attrs = trial.user_attrs
            if "timm" in attrs:
                trial.set_user_attr("record", record)
                record |= self.measured(attrs["timm"])
            else:
                record |= self.evaluated(trial, record)
        except (StorageGone, DeviceGone):
            raise  # the storage or the device is gone, which is no fault of the configuration: tried again later
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                # No fault of the configuration: its trial stays unfinished and is tried again from its last rung.
                raise StorageGone(f"{self.run.path} cannot be written: {error.strerror}; free some space, then "
                                  f"`search.py resume {self.run.path}`") from error
            reason = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
            record |= {"outcome": "failed", "reason": reason.splitlines()[0][:500] if reason else "unknown",
                       "traceback": without_secrets("".join(traceback.format_exc())[-4000:])}
        spent = record.setdefault("cost_s", {})
        spent["propose"], self.proposing_s = self.proposing_s, 0.0
        # What is left of the time since the trial before this one: asking, proposing, reading, recording.
        spent["overhead"] = max(0.0, time.perf_counter() - self.free_since - sum(spent.values()))
        self.free_since = time.perf_counter()
        trial.set_user_attr("record", record)
        drop_checkpoint(self.run, record)
        latency = record.get("latency")
        if latency:
            trial.set_constraint("latency_ms", latency["latency_ms"] - self.budget_ms)
        if record["outcome"] == "complete" and record.get("score") is not None and latency:
            self.study.tell(trial, [latency["latency_ms"], record["score"]])
        else:
            self.study.tell(trial, state=TrialState.FAIL if record["outcome"] == "failed" else TrialState.PRUNED)
        predicted_over = record["outcome"] == "over_budget" and (latency or {}).get("origin") == "predicted"
        self.hopeless = self.hopeless + 1 if predicted_over else 0

    def measured(self, name: str) -> dict[str, Any]:
        """A model of timm beside the front: its latency alone, for its score would take its own training."""
        from nas.latency.network import Network

        begun = time.perf_counter()
        found = self.evaluation.measure(name)
        params_m, gmacs = Network.of(name).counted(self.meta["resolution"])
        return {"outcome": "complete", "anchor": name, "latency": found.to_dict(), "params_m": params_m,
                "gmacs": gmacs, "cost_s": {"latency": time.perf_counter() - begun}}

    def evaluated(self, trial: optuna.Trial, record: dict[str, Any]) -> dict[str, Any]:
        """The record of a trial that has a configuration."""
        attrs = trial.user_attrs
        config = (FastViTConfig.from_dict(attrs["config"]) if "config" in attrs else self.space.suggest(trial))
        record |= {"seed": attrs.get("seed", self.meta["seed"]), "scores": attrs.get("scores", [])}
        size = cost(config, self.meta["resolution"], num_classes=self.meta["num_classes"])
        record |= {"config": config.to_dict(), "config_key": config.key(), "params_m": size.params_m,
                   "gmacs": size.gmacs}
        trial.set_user_attr("record", record)
        if "confirms" in attrs:
            return self.train(config, trial, 0.0, {}, may_stop=False, seed=record["seed"])
        return self.evaluate(config, trial, always=any(attrs.get(k) for k in ("preset", "anchor", "probe")))

    def evaluate(self, config: FastViTConfig, trial: optuna.Trial, *, always: bool) -> dict[str, Any]:
        """Latency first, because it needs no trained weights; the score only of what meets the budget.

        `always` measures what a prediction would rule out: anchors, and the smallest configuration.
        """
        if not always:
            if (other := self.same(config, trial.number)) is not None:
                return {"outcome": other.outcome, "reason": f"the same as trial {other.trial}",
                        "reused_from": other.trial, "latency": other.latency, "score": other.score,
                        "score_sd": other.score_sd, "scores": other.scores, "curve": other.curve}
            if (predicted := self.surely_over(config)) is not None:
                return {"outcome": "over_budget", "reason": f"predicted at {predicted:.2f} ms",
                        "latency": {"origin": "predicted", "latency_ms": predicted, "by": "predictor",
                                    "device": self.meta["device"]}}
        begun = time.perf_counter()
        measurement = self.evaluation.measure(config)
        found: dict[str, Any] = {"latency": measurement.to_dict(),
                                 "cost_s": {"latency": time.perf_counter() - begun}}
        if (known := self.shipped_score(config, self.meta["seed"])) is not None:
            return found | known
        if measurement.ci_low_ms > self.budget_ms:
            return found | {"outcome": "over_budget", "reason": f"measured at {measurement.latency_ms:.3f} ms"}
        trial.set_user_attr("record", trial.user_attrs["record"] | found)
        return found | self.train(config, trial, measurement.latency_ms, found["cost_s"],
                                  may_stop=not (always or self.photographs))

    def same(self, config: FastViTConfig, number: int) -> TrialRecord | None:
        """Another trial of the same configuration that has ended; one that began earlier is waited for."""
        while True:
            others = [r for r in self.records() if r.config_key == config.key() and r.trial != number]
            for other in others:
                if other.outcome in ("complete", "over_budget", "stopped_early") and other.origin == "measured":
                    return other
            if self.should_stop() or not any(r.outcome == "running" and r.trial < number for r in others):
                return None
            time.sleep(0.5)

    def shipped_score(self, config: FastViTConfig, seed: int) -> dict[str, Any] | None:
        """The score as it ships with the package, for these images, this seed and these steps; or None."""
        from nas.proxy import rungs

        if seed not in self.shipped:
            self.shipped[seed] = self.evaluation.shipped(seed)
        rows, steps = self.shipped[seed].get(config.key(), {}), self.meta["steps"]
        if not all(rung in rows for rung in rungs(steps)):
            return None
        row = rows[steps]
        return {"outcome": "complete", "score_origin": "shipped", "score": row["score"], "score_sd": row["score_sd"],
                "parts": row["parts"], "scores": [_rung(rows[rung]) for rung in rungs(steps)]}

    def train(self, config: FastViTConfig, trial: optuna.Trial, latency_ms: float, cost_s: dict[str, float], *,
              may_stop: bool, seed: int | None = None) -> dict[str, Any]:
        """Score a configuration rung by rung; what every rung found is stored before the next one begins."""
        seed = self.meta["seed"] if seed is None else seed
        if (known := self.shipped_score(config, seed)) is not None:
            return known
        waited = time.perf_counter()
        self.evaluation.prepare(seed)
        begun, paused = time.perf_counter(), quiet.paused_s()
        if begun - waited > NOTICED_S:
            cost_s["parent"] = begun - waited
        checkpoint = checkpoint_path(self.run, config.key(), seed)
        # A worker that died on the same trial has left its rungs, and its checkpoint where this one can read it.
        found = {rung["step"]: rung for rung in trial.user_attrs.get("scores", [])}
        stopped = ""

        def on_rung(result: ProxyResult) -> bool:
            nonlocal stopped
            found[result.steps] = _rung(vars(result))
            trial.set_user_attr("record", trial.user_attrs["record"] | {"scores": list(found.values())})
            stopped = dominated(config, result.score, result.steps, latency_ms, self.records(),
                                self.proposer.surrogate, self.proposer.prior) if may_stop else ""
            return bool(stopped)

        result = self.evaluation.score(config, seed=seed, checkpoint=checkpoint, on_rung=on_rung)
        self.evaluation.keep(checkpoint, trial.number)
        cost_s["paused"] = quiet.paused_s() - paused  # while others were measured
        cost_s["proxy"] = time.perf_counter() - begun - cost_s["paused"]
        found[result.steps] = _rung(vars(result))
        scores = [rung for step, rung in sorted(found.items()) if step <= result.steps]
        return {"outcome": "stopped_early" if stopped else "complete", "reason": stopped or None,
                "score": result.score, "score_sd": result.score_sd, "scores": scores, "parts": result.parts,
                "curve": result.curve, "score_origin": "trained", "cost_s": cost_s}


def _rung(result: dict[str, Any]) -> dict[str, Any]:
    return {"step": result["steps"], "score": result["score"], "score_sd": result["score_sd"],
            "seconds": result.get("seconds", result.get("cpu_seconds"))}


def idle_path(run: Run, name: str) -> Path:
    """There while a worker waits for the launcher to say what is to be confirmed."""
    return run.path / "workers" / f"{name}.idle"


def work(run: Run, name: str | None = None, evaluation: Evaluation | None = None) -> int:
    """Evaluate trials until the run is told to stop; the exit code."""
    name = name or worker_name()
    with Pulse(run, name):
        worker = Worker(run, name, evaluation)
        # A launcher that was killed cannot say stop; its workers then end after their current trial.
        parent = os.getppid()
        if run.meta.get("launcher_pid") == parent:
            threading.Thread(target=_end_when_orphaned, args=(worker, parent), daemon=True).start()
        worker.loop()
    return 0


def _end_when_orphaned(worker: Worker, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    worker.ended.set()
