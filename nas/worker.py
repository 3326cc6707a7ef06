"""One worker of a run: ask for a configuration, gate it by latency, score it, record it; until told to stop."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.errors import Failure, UsageError
from nas.propose import STARTUP_TRIALS, Proposer
from nas.run import Run, TrialRecord
from space import SearchSpace

if TYPE_CHECKING:
    import optuna

    from nas.proxy.train import ProxyResult

log = logging.getLogger(__name__)

FAR_OVER = 1.3  # a predicted latency beyond this share of the budget is not measured
STOP_MARGIN = 0.06
HOPELESS = 100  # predicted over budget in a row: the sampler finds nothing more under this budget


class SizeLaw:
    """Latency predicted from GMACs and activations by a power law fitted to what the run has measured.

    The null of every latency predictor; a gate, never a value that is shown.
    """

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution
        self._weights: np.ndarray | None = None

    def fit(self, records: list[TrialRecord]) -> None:
        measured = [r for r in records if r.config and r.origin == "measured" and r.latency_ms]
        if len(measured) < 4:
            return
        rows = np.array([self._row(FastViTConfig.from_dict(r.config)) for r in measured if r.config])
        target = np.log([r.latency_ms or np.nan for r in measured])
        # A little ridge: the presets alone nearly lie on a line.
        self._weights = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(rows.shape[1]), rows.T @ target)

    def _row(self, config: FastViTConfig) -> np.ndarray:
        size = cost(config, self.resolution)
        return np.array([1.0, np.log(size.gmacs), np.log(size.activations_m), np.log(sum(config.depths))])

    def predict(self, config: FastViTConfig) -> float | None:
        """Latency in ms, or None before enough was measured."""
        return None if self._weights is None else float(np.exp(self._row(config) @ self._weights))


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

    def __init__(self, run: Run, name: str) -> None:
        import optuna

        from nas.data import load_task
        from nas.proxy import shipped_scores

        self.run, self.name, self.meta = run, name, run.meta
        self.space = SearchSpace.from_toml(self.meta["space"]["toml"])
        self.task = load_task(self.meta["task"], resolution=self.meta["resolution"], seed=self.meta["seed"])
        if self.task.fingerprint != self.meta["task_fingerprint"]:
            raise UsageError(f"the data of {self.meta['task']} changed since the run {run.path} began; start a new run")
        self.shipped = shipped_scores(self.task, self.meta["seed"])
        # Workers must not draw alike; the run's seed and the worker's own number decide.
        offset = int.from_bytes(name.encode(), "big") % 99991
        seed = (self.meta["seed"] * 100_003 + offset) % 2**32
        self.rng = np.random.default_rng(seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.load_study(study_name=self.meta["id"], storage=run.storage,
                                       sampler=sampler(self.meta.get("sampler", "surrogate"), seed))
        self.proposer = Proposer(self.space, self.meta["steps"], self.budget_ms, self.rng)
        self.law = SizeLaw(self.meta["resolution"])
        self.hopeless = 0

    @property
    def budget_ms(self) -> float:
        return float(self.meta["budget_ms"])

    def records(self) -> list[TrialRecord]:
        return self.run.records()

    def should_stop(self) -> bool:
        """Told to stop, out of time for one more trial, or enough trials begun by all workers together."""
        self.run.meta = self.meta = Run.open(self.run.path).meta
        if (self.run.path / "stop").exists():
            return True
        records = self.records()
        if (deadline := self.meta.get("deadline")) is not None:
            spent = [sum(r.cost_s.values()) for r in records if r.score is not None and r.cost_s.get("proxy")]
            if time.time() + (float(np.median(spent)) if spent else 0.0) > deadline:
                return True
        if (limit := self.meta.get("trial_limit")) is not None:
            begun = [r for r in records if not (r.preset or r.anchor) and r.origin != "predicted"]
            return len(begun) >= limit
        return False

    def loop(self) -> None:
        while not self.should_stop() and self.hopeless < HOPELESS:
            records = self.records()
            self.law.fit(records)
            if self.out_of_reach(records):
                return
            self.propose(records)
            self.run_trial(self.study.ask())

    def out_of_reach(self, records: list[TrialRecord]) -> bool:
        """Whether even the smallest configuration is far over the budget; it is measured once, as the nearest miss."""
        smallest, _ = self.space.corners()
        predicted = self.law.predict(smallest)
        if predicted is None or predicted <= FAR_OVER * self.budget_ms:
            return False
        if any(r.config_key == smallest.key() for r in records):
            return not any(r.latency_ms and r.latency_ms <= FAR_OVER * self.budget_ms for r in records)
        self.study.enqueue_trial(self.space.encode(smallest), user_attrs={"probe": True})
        return False

    def propose(self, records: list[TrialRecord]) -> None:
        """Put a configuration in the queue unless something waits there, or Optuna's sampler is to decide."""
        import optuna

        waiting = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
        if waiting or self.law.predict(PRESETS["t8"]) is None:
            return
        known = {r.config_key for r in records if r.config_key}
        if self.meta.get("sampler", "surrogate") == "surrogate":
            config = self.proposer.next(records, self.predict_ms)
        else:
            begun = [r for r in records if r.outcome in ("complete", "stopped_early", "running")
                     and not (r.preset or r.anchor)]
            config = self.proposer.random(self.predict_ms, known) if len(begun) < STARTUP_TRIALS else None
        if config is not None:
            self.study.enqueue_trial(self.space.encode(config))

    def predict_ms(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        return np.array([self.law.predict(config) for config in configs], float)

    def run_trial(self, trial: optuna.Trial) -> None:
        """Evaluate one trial and tell its result; whatever goes wrong is the trial's record, not the worker's end."""
        from optuna.trial import TrialState

        begun = time.perf_counter()
        record: dict[str, Any] = {"worker": self.name, "outcome": "running"}
        try:
            attrs = trial.user_attrs
            config = (FastViTConfig.from_dict(attrs["config"]) if "config" in attrs else self.space.suggest(trial))
            size = cost(config, self.meta["resolution"], num_classes=self.task.num_classes)
            record |= {"config": config.to_dict(), "config_key": config.key(), "params_m": size.params_m,
                       "gmacs": size.gmacs}
            trial.set_user_attr("record", record)
            record |= self.evaluate(config, trial, always=any(attrs.get(k) for k in ("preset", "anchor", "probe")))
        except Exception as error:
            reason = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
            record |= {"outcome": "failed", "reason": reason.splitlines()[0][:500] if reason else "unknown",
                       "traceback": "".join(traceback.format_exc())[-4000:]}
        spent = record.setdefault("cost_s", {})
        spent["overhead"] = max(0.0, time.perf_counter() - begun - sum(spent.values()))
        trial.set_user_attr("record", record)
        latency = record.get("latency")
        if latency:
            trial.set_constraint("latency_ms", latency["latency_ms"] - self.budget_ms)
        if record["outcome"] == "complete" and record.get("score") is not None and latency:
            self.study.tell(trial, [latency["latency_ms"], record["score"]])
        else:
            self.study.tell(trial, state=TrialState.FAIL if record["outcome"] == "failed" else TrialState.PRUNED)
        predicted_over = record["outcome"] == "over_budget" and (latency or {}).get("origin") == "predicted"
        self.hopeless = self.hopeless + 1 if predicted_over else 0

    def evaluate(self, config: FastViTConfig, trial: optuna.Trial, *, always: bool) -> dict[str, Any]:
        """Latency first, because it needs no trained weights; the score only of what meets the budget.

        `always` measures what a prediction would rule out: anchors, and the smallest configuration.
        """
        from nas.latency import measure
        from nas.proxy import rungs

        if not always:
            for other in self.records():
                if other.config_key == config.key() and other.trial != trial.number and other.outcome in (
                        "complete", "over_budget", "stopped_early") and other.origin == "measured":
                    return {"outcome": other.outcome, "reason": f"the same as trial {other.trial}",
                            "reused_from": other.trial, "latency": other.latency, "score": other.score,
                            "score_sd": other.score_sd, "scores": other.scores, "curve": other.curve}
            predicted = self.law.predict(config)
            if predicted is not None and predicted > FAR_OVER * self.budget_ms:
                return {"outcome": "over_budget", "reason": f"predicted at {predicted:.2f} ms",
                        "latency": {"origin": "predicted", "latency_ms": predicted, "by": "size law",
                                    "device": self.meta["device"]}}
        begun = time.perf_counter()
        measurement = measure(config, self.meta["device"], resolution=self.meta["resolution"],
                              budget_ms=self.budget_ms)
        found: dict[str, Any] = {"latency": measurement.to_dict(),
                                 "cost_s": {"latency": time.perf_counter() - begun}}
        shipped = self.shipped.get(config.key(), {})
        steps = self.meta["steps"]
        if all(rung in shipped for rung in rungs(steps)):
            row = shipped[steps]
            return found | {"outcome": "complete", "score_origin": "shipped", "score": row["score"],
                            "score_sd": row["score_sd"], "parts": row["parts"],
                            "scores": [_rung(shipped[rung]) for rung in rungs(steps)]}
        if measurement.ci_low_ms > self.budget_ms:
            return found | {"outcome": "over_budget", "reason": f"measured at {measurement.latency_ms:.3f} ms"}
        return found | self.train(config, trial, measurement.latency_ms, found["cost_s"], may_stop=not always)

    def train(self, config: FastViTConfig, trial: optuna.Trial, latency_ms: float, cost_s: dict[str, float], *,
              may_stop: bool) -> dict[str, Any]:
        """Score a configuration rung by rung; what every rung found is stored before the next one begins."""
        from nas.proxy import score

        begun = time.perf_counter()
        checkpoint = self.run.path / "workers" / f"{config.key()}.pt"
        scores: list[dict[str, Any]] = []
        stopped = ""

        def on_rung(result: ProxyResult) -> bool:
            nonlocal stopped
            scores.append(_rung(vars(result)))
            partial = trial.user_attrs.get("record", {}) | {"scores": scores}
            trial.set_user_attr("record", partial)
            stopped = hopeless(result.score, result.steps, latency_ms, self.records()) if may_stop else ""
            return bool(stopped)

        result = score(config, self.task, steps=self.meta["steps"], seed=self.meta["seed"], checkpoint=checkpoint,
                       on_rung=on_rung)
        checkpoint.unlink(missing_ok=True)
        cost_s["proxy"] = time.perf_counter() - begun
        if not stopped:
            scores.append(_rung(vars(result)))
        return {"outcome": "stopped_early" if stopped else "complete", "reason": stopped or None,
                "score": result.score, "score_sd": result.score_sd, "scores": scores, "parts": result.parts,
                "curve": result.curve, "score_origin": "trained", "cost_s": cost_s}


def _rung(result: dict[str, Any]) -> dict[str, Any]:
    return {"step": result["steps"], "score": result["score"], "score_sd": result["score_sd"],
            "seconds": result.get("seconds", result.get("cpu_seconds"))}


def hopeless(score: float, steps: int, latency_ms: float, records: list[TrialRecord]) -> str:
    """Why a trial with this score at this rung is not worth more steps; empty when it may be.

    It is dominated when a configuration that is no slower had a score at the same rung which is higher by more
    than STOP_MARGIN, twice the spread between two runs of one configuration (docs/LOG.md).
    """
    best = max(((rung["score"], record.trial) for record in records if record.latency_ms is not None
                and record.origin == "measured" and record.latency_ms <= latency_ms
                for rung in record.scores if rung["step"] == steps), default=(-np.inf, -1))
    if best[0] <= score + STOP_MARGIN:
        return ""
    return f"at step {steps} {score:.3f}, trial {best[1]} had {best[0]:.3f} and is no slower"


def lock_path(run: Run, name: str) -> str:
    return str(run.path / "workers" / f"{name}.lock")


def bury(run: Run) -> int:
    """Fail the running trials whose worker is gone and put their configurations back in the queue; how many."""
    import optuna

    buried = 0
    for trial in run.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        record = trial.user_attrs.get("record", {})
        worker = record.get("worker")
        if worker and _held(run, worker):
            continue
        run.storage.set_trial_user_attr(trial._trial_id, "record", record | {
            "outcome": "failed", "reason": "the worker died; tried again"})
        run.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        kept = {key: value for key, value in trial.user_attrs.items() if key != "record"}
        if trial.params or kept.get("config"):
            run.study.enqueue_trial(trial.params, user_attrs=kept)
        buried += 1
    return buried


def _held(run: Run, worker: str) -> bool:
    """Whether a live process on this host holds the worker's lock; the kernel frees it however the process ends."""
    try:
        with FileLock(lock_path(run, worker), timeout=0):
            return False
    except Timeout:
        return True


def work(run: Run, name: str | None = None) -> int:
    """Evaluate trials until the run is told to stop; the exit code."""
    import torch

    name = name or f"{socket.gethostname()}-{os.getpid()}"
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with FileLock(lock_path(run, name), timeout=0):
        # A launcher that was killed cannot say stop; its workers then end after their current trial.
        parent = os.getppid()
        worker = Worker(run, name)
        if run.meta.get("launcher_pid") == parent:
            threading.Thread(target=_stop_when_orphaned, args=(run, parent), daemon=True).start()
        worker.loop()
    return 0


def _stop_when_orphaned(run: Run, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2)
    (run.path / "stop").touch()
