"""What a worker tries next: what waits in the run's queue, a proposal, or what Optuna's sampler draws."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import optuna
from optuna.trial import TrialState

from fastvit.config import FastViTConfig
from nas import quiet
from nas.data import DRAWN
from nas.estimate.judge import run_judge
from nas.estimate.surrogate import shipped_evidence
from nas.latency.predictor import Predictor
from nas.runs.measurement import Origin
from nas.runs.run import Run
from nas.runs.studies import begin, claim, waiting_trials
from nas.runs.trial import Outcome, Trial
from nas.search.feasibility import over_limits, surely_over
from nas.search.proposer import STARTUP_TRIALS, Proposer
from space import SearchSpace

FAR_OVER = 1.3  # the smallest configuration beyond this share of the budget: nothing is within reach
MOST_RULED_OUT = 100  # predicted over budget in a row: the sampler finds nothing more under this budget
_BEGUN = (Outcome.COMPLETE, Outcome.STOPPED_EARLY, Outcome.RUNNING)


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of that name; under "surrogate" it only fills in when there is nothing to propose."""
    import warnings

    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed,
                                          n_startup_trials=STARTUP_TRIALS)
    return optuna.samplers.RandomSampler(seed=seed)


class Chooser:
    """Begins trials for one worker. All that it knows of other workers, it reads from the trials that it is given."""

    def __init__(self, run: Run, worker: str, predictor: Predictor) -> None:
        self.run, self.worker, self.predictor = run, worker, predictor
        self.space = SearchSpace.from_toml(run.meta.space.toml)
        # Workers must not draw alike; the run's seed and the worker's own name decide.
        offset = int.from_bytes(worker.encode(), "big") % 99991
        seed = (run.meta.seed * 100_003 + offset) % 2**32
        self.rng = np.random.default_rng(seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.load_study(study_name=run.meta.id, storage=run.storage,
                                       sampler=sampler(run.meta.sampler, seed))
        # On drawn tasks short runs rank long ones; on photographs they say too little to be followed alone.
        judge = None if run.meta.task in DRAWN else partial(run_judge, run.meta)
        self.proposer = Proposer(self.space, run.meta.steps, run.meta.budget_ms, self.rng,
                                 prior=shipped_evidence(run.meta.task_fingerprint), judge=judge,
                                 allows=lambda config: not over_limits(run.meta, config))
        self.ruled_out_in_a_row = 0  # trials in a row that a prediction ruled out
        self.seconds = 0.0  # that the latest proposal took

    @property
    def exhausted(self) -> bool:
        """Whether nothing more is found within the budget."""
        return self.ruled_out_in_a_row >= MOST_RULED_OUT

    def told(self, trial: Trial) -> None:
        """How a trial ended."""
        ruled_out = trial.outcome == Outcome.OVER_BUDGET and trial.origin == Origin.PREDICTED
        self.ruled_out_in_a_row = self.ruled_out_in_a_row + 1 if ruled_out else 0

    def next(self, trials: Sequence[Trial]) -> optuna.Trial:
        """Begin a trial: from the queue, by a proposal, or by Optuna's sampler."""
        return self._proposed(trials) or self.study.ask()

    def next_waiting(self) -> optuna.Trial | None:
        """A trial from the queue; None when it is empty, where Optuna's `ask` would draw one."""
        return claim(self.study, self.run.storage)

    def out_of_reach(self, trials: Sequence[Trial]) -> bool:
        """Whether even the smallest configuration is far over the budget; it is measured once, as the nearest miss."""
        budget_ms = self.run.meta.budget_ms
        if any(t.meets_budget(budget_ms) for t in trials):
            return False
        smallest, _ = self.space.smallest_and_largest()
        if surely_over(self.predictor, smallest, budget_ms) is None:
            return False
        if any(t.config_key == smallest.key() for t in trials):
            return not any(t.latency_ms is not None and t.latency_ms <= FAR_OVER * budget_ms for t in trials)
        self.space.enqueue(self.study, smallest, {"probe": True})
        return False

    def predict_ms(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        """Predicted ms (N,); infinite for what is beyond the run's limits on size."""
        ms = self.predictor.predict(configs)[0]
        meta = self.run.meta
        if any((meta.most_params_m, meta.most_size_mb, meta.most_memory_mb)):
            ms = np.where([bool(over_limits(meta, config)) for config in configs], np.inf, ms)
        return ms

    def _proposed(self, trials: Sequence[Trial]) -> optuna.Trial | None:
        """None while something waits in the queue, or when Optuna's sampler is to decide."""
        self.seconds = 0.0
        if waiting_trials(self.study) or not self.predictor.ready:
            return None
        since = time.perf_counter()
        # A run that serves several budgets looks under each of them in turn.
        self.proposer.budget_ms = float(self.rng.choice(self.run.meta.budgets))
        if self.run.meta.sampler == "surrogate":
            with quiet.training():  # fitting keeps a core as busy as training does
                config = self.proposer.next(trials, self.predict_ms)
        else:
            begun = [t for t in trials if t.outcome in _BEGUN and not (t.preset or t.anchor)]
            known = {t.config_key for t in trials if t.config_key}
            config = self.proposer.random(self.predict_ms, known) if len(begun) < STARTUP_TRIALS else None
        self.seconds = time.perf_counter() - since
        if config is None:
            return None
        # Signed from the start: a kill from here on leaves a trial that is known to be this worker's.
        attrs = {"record": Trial(trial=0, worker=self.worker, config=config).to_record()}
        # A database takes three statements for each parameter, and only Optuna's own samplers read them.
        if self.run.meta.shared and self.run.meta.sampler not in ("tpe", "nsga2"):
            return begin(self.study, optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attrs))
        return begin(self.study, self.space.trial(config, TrialState.RUNNING, attrs))
