"""A run of made-up trials, for tests, benchmarks and screenshots: the real file format, no real figure in it.

    python -m dashboard.demo FOLDER [TRIALS]

Latencies and scores follow a formula with noise. run.json says `"synthetic": true` and names the device
"synthetic", and every page of the dashboard says so too.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.runs.budget import is_over_budget
from nas.runs.measurement import Measurement, Origin
from nas.runs.meta import RunMeta, RunState, SpaceSource
from nas.runs.run import Run
from nas.runs.trial import Outcome, Request, Rung, ScoreOrigin, Trial
from nas.search.confirmed import search_trials
from space import SearchSpace

if TYPE_CHECKING:
    import optuna

RESOLUTION, STEPS, CLASSES = 64, 60, 16
EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def latency_ms(config: FastViTConfig, resolution: int = RESOLUTION) -> float:
    """The formula: a power of the size, a fee for each block, and dear attention on fine grids."""
    size = cost(config, resolution)
    fee = sum(depth * (0.022 + 0.002 * kernel + (0.03 if mixer == "attention" else 0.0))
              for depth, kernel, mixer in zip(config.depths, config.ffn_kernels, config.mixers, strict=True))
    return 0.15 + 6.0 * size.gmacs**0.8 + fee


def quality(config: FastViTConfig) -> float:
    """The formula of the score before noise: it saturates with size, and some choices matter more than others."""
    size = math.log10(1e3 * cost(config, RESOLUTION).gmacs + 1)
    shape = (0.030 * (config.mixers[3] == "attention") + 0.012 * (config.ffn_kernels[2] - 3) / 4
             - 0.02 * abs(math.log2(config.widths[3] / config.widths[0] / 8)) + 0.015 * math.log2(config.depths[2])
             - 0.004 * max(0, config.depths[2] - 8))
    return 0.18 + 0.52 * (1 - math.exp(-1.1 * size)) + shape


def measurement(config: FastViTConfig, rng: np.random.Generator, resolution: int = RESOLUTION) -> Measurement:
    """What nas.latency would have recorded, its samples included."""
    true, rounds = latency_ms(config, resolution), int(rng.integers(12, 45))
    waited = np.where(rng.random(rounds) < 0.1, rng.uniform(0.02, 0.5, rounds), 0.0)
    trial = true * (1 + np.abs(rng.normal(0, 0.02, rounds)) + 0.2 * waited)
    value = float(np.quantile(trial[waited == 0], 0.35))
    half = value * float(rng.uniform(0.025, 0.04))
    return Measurement(
        config.key(), config.key(), "synthetic", Origin.MEASURED, resolution, value, value - half, value + half,
        protocol="warm-1", runtime="a formula", reference_ms=1.5, others=0.02, measured_at=EPOCH.isoformat(),
        seconds=1.0, samples={"trial_ms": trial.round(4).tolist(), "waited": waited.round(3).tolist()})


def evaluate(config: FastViTConfig, budget_ms: float, rng: np.random.Generator, *, anchor: bool = False,
             fails: bool = False) -> Trial:
    """A trial as a worker records it, with most of those that cannot win stopped early."""
    size = cost(config, RESOLUTION, num_classes=CLASSES)
    begun = Trial(0, worker="demo", config=config, params_m=size.params_m, gmacs=size.gmacs)
    guess = latency_ms(config)
    if not anchor and guess > 1.3 * budget_ms:
        return replace(begun, outcome=Outcome.OVER_BUDGET, reason=f"predicted at {guess:.2f} ms", predicted_ms=guess,
                       cost_s={"overhead": 0.0})
    if fails:
        return replace(begun, outcome=Outcome.FAILED, reason="Failure: the loss became NaN at step 12",
                       traceback="Traceback (most recent call last):\n  <made up by the demo>\n",
                       cost_s={"latency": 1.0, "overhead": 0.1})
    found = measurement(config, rng)
    measured = replace(begun, latency=found, cost_s={"latency": 1.0, "overhead": 0.05})
    if not anchor and is_over_budget(found.ci_low_ms, budget_ms):
        return replace(measured, outcome=Outcome.OVER_BUDGET, reason=f"measured at {found.latency_ms:.3f} ms")
    final = float(np.clip(quality(config) + rng.normal(0, 0.012), 0.02, 0.98))
    steps = [STEPS // 4, STEPS // 2, STEPS]
    stopped = not anchor and final < 0.62 and rng.random() < 0.8
    if stopped:
        steps = steps[: int(rng.integers(1, 3))]
    rungs = tuple(Rung(step, round(final * (1 - 0.6 * math.exp(-3 * step / STEPS)) + rng.normal(0, 0.005), 4)
                       if step < STEPS else final, seconds=0.11 * step) for step in steps)
    curve = tuple((step, round(0.5 + 2.3 * math.exp(-2.2 * final * step / STEPS) + float(rng.normal(0, 0.03)), 4))
                  for step in range(1, steps[-1] + 1, 2))
    scored = replace(measured, scores=rungs, curve=curve, score_sd=0.012, score=rungs[-1].score,
                     cost_s=measured.cost_s | {"proxy": 0.11 * steps[-1]})
    if stopped:
        return replace(scored, outcome=Outcome.STOPPED_EARLY,
                       reason=f"hopeless at step {steps[-1]}: far below the front")
    return replace(scored, outcome=Outcome.COMPLETE, score=final, score_origin=ScoreOrigin.TRAINED)


def configurations(space: SearchSpace, trials: int, budget_ms: float, rng: np.random.Generator
                   ) -> Iterable[tuple[str | None, FastViTConfig]]:
    """The presets first, then random configurations within reach and, later, steps from good ones."""
    yield from PRESETS.items()
    good: list[tuple[float, FastViTConfig]] = []
    for index in range(trials):
        config = space.sample(rng)
        for _ in range(60):
            if 0.3 * budget_ms <= latency_ms(config) <= (2 if index % 5 == 0 else 1.05) * budget_ms:
                break
            config = space.sample(rng)
        if good and rng.random() < index / (index + 40):
            parent = good[int(rng.integers(min(len(good), 8)))][1]
            for _ in range(int(rng.integers(1, 4))):
                near = space.neighbours(parent)
                parent = near[int(rng.integers(len(near)))]
            config = parent
        if latency_ms(config) <= budget_ms:
            good.append((quality(config) - 0.2 * latency_ms(config) / budget_ms * rng.random(), config))
            good.sort(key=lambda item: -item[0])
            del good[24:]
        yield None, config


def _backend() -> tuple[optuna.storages.journal.BaseJournalBackend, list[dict[str, Any]]]:
    from optuna.storages.journal import BaseJournalBackend

    class Kept(BaseJournalBackend):
        """A journal in memory: thousands of trials in seconds, written to the file at once."""

        def __init__(self) -> None:
            self.logs: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
            # A copy: Optuna keeps what it reads, and changes it.
            found: list[dict[str, Any]] = json.loads(json.dumps(self.logs[log_number_from:]))
            return found

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self.logs += json.loads(json.dumps(logs))

    kept = Kept()
    return kept, kept.logs


def make(path: Path, trials: int = 60, *, budget_ms: float = 1.5, seed: int = 0, state: RunState = RunState.FINISHED,
         finalists: int = 8) -> Run:
    """Make a demo run in the new folder `path`, operation by operation as a worker would.

    Raises:
        UsageError: the folder exists already.
    """
    import optuna
    from optuna.storages import JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, rng = SearchSpace.load("default"), np.random.default_rng(seed)
    run = Run.create(path, RunMeta(
        id="", synthetic=True, budget_ms=budget_ms, device="synthetic", resolution=RESOLUTION, task="synthetic",
        task_fingerprint="synthetic", num_classes=CLASSES, space=SpaceSource(space.name, space.source), seed=seed,
        steps=STEPS, versions={"optuna": optuna.__version__}))
    run.meta = replace(run.meta, created=EPOCH.isoformat())
    run.update(state=state, elapsed_s=8.0 * (trials + 7))
    backend, logs = _backend()
    study = optuna.create_study(study_name=run.meta.id, storage=JournalStorage(backend),
                                directions=["minimize", "maximize"])
    clock = EPOCH
    for number, (preset, config) in enumerate(configurations(space, trials, budget_ms, rng)):
        add(study, space, config, budget_ms, rng, preset=preset, fails=number % 15 == 14)
        clock += datetime.timedelta(seconds=8)
        _at(logs, clock)
    if trials:
        foreign(study, 1.27, rng)
        _at(logs, clock)
    with run.journal.open("w") as file:
        file.writelines(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
    if trials and finalists:
        confirm(run, space, finalists, rng)
    if trials:
        run.update(trials_told=len(run.trials()))
    return run


def confirm(run: Run, space: SearchSpace, count: int, rng: np.random.Generator) -> None:
    """What confirming does at the end of a search: more seeds for the finalists, latencies measured again."""
    from nas.runs.studies import waiting_trials
    from nas.search.confirmation import enqueue, finalists
    from nas.search.confirmed import LATENCY_ATTR

    chosen = finalists(search_trials(run), run.meta.budget_ms, count)
    enqueue(run, chosen)
    for _ in waiting_trials(run.study):
        trial = run.study.ask()
        config = FastViTConfig.from_dict(trial.user_attrs["config"])
        _tell(run.study, trial, evaluate(config, run.meta.budget_ms, rng, anchor=True))
    run.study.set_user_attr(LATENCY_ATTR, {
        t.config_key: [measurement(t.architecture, rng).to_dict()] for t in chosen})


def _tell(study: optuna.Study, trial: optuna.Trial, found: Trial) -> None:
    from optuna.trial import TrialState

    trial.set_user_attr("record", found.to_record())
    if found.outcome == Outcome.COMPLETE and found.score is not None and found.latency_ms is not None:
        study.tell(trial, [found.latency_ms, found.score])
    else:
        study.tell(trial, state=TrialState.FAIL if found.outcome == Outcome.FAILED else TrialState.PRUNED)


def foreign(study: optuna.Study, ms: float, rng: np.random.Generator) -> None:
    """An anchor from timm: measured like the others, without a configuration and without a score."""
    name = "timm:repvit_m0_9"
    study.enqueue_trial({}, user_attrs=Request(anchor=name).to_attrs())
    found = measurement(PRESETS["t8"], rng)
    found = replace(found, name=name, config_key=name, latency_ms=ms * found.latency_ms, ci_low_ms=ms * found.ci_low_ms,
                    ci_high_ms=ms * found.ci_high_ms)
    _tell(study, study.ask(), Trial(0, Outcome.COMPLETE, worker="demo", latency=found, params_m=5.5, gmacs=0.068,
                                    cost_s={"latency": 1.0}))


def _at(logs: list[dict[str, Any]], clock: datetime.datetime) -> None:
    """Date the operations of the last trial as if it had taken eight seconds."""
    for log in reversed(logs):
        if "datetime_complete" in log:
            log["datetime_complete"] = clock.isoformat()
        if "datetime_start" in log:
            log["datetime_start"] = (clock - datetime.timedelta(seconds=8)).isoformat()
        if log["op_code"] == 4:
            return


def add(study: optuna.Study, space: SearchSpace, config: FastViTConfig, budget_ms: float, rng: np.random.Generator,
        *, preset: str | None = None, fails: bool = False) -> None:
    """One more trial, asked for and told as nas.workers.worker does."""
    study.enqueue_trial(space.encode(config), user_attrs=Request(preset=preset).to_attrs())
    trial = study.ask()
    space.suggest(trial)
    _tell(study, trial, evaluate(config, budget_ms, rng, anchor=preset is not None, fails=fails))



if __name__ == "__main__":
    made = make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60)
    print(made.path)
