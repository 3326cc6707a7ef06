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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.runs.run import Run
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


def measurement(config: FastViTConfig, rng: np.random.Generator, resolution: int = RESOLUTION) -> dict[str, Any]:
    """What nas.latency would have recorded, its samples included."""
    true, rounds = latency_ms(config, resolution), int(rng.integers(12, 45))
    waited = np.where(rng.random(rounds) < 0.1, rng.uniform(0.02, 0.5, rounds), 0.0)
    trial = true * (1 + np.abs(rng.normal(0, 0.02, rounds)) + 0.2 * waited)
    value = float(np.quantile(trial[waited == 0], 0.35))
    half = value * float(rng.uniform(0.025, 0.04))
    return {"name": config.key(), "config_key": config.key(), "device": "synthetic", "origin": "measured",
            "resolution": resolution, "latency_ms": value, "ci_low_ms": value - half, "ci_high_ms": value + half,
            "batch": 1, "threads": 1, "precision": "fp32", "protocol": "warm-1", "runtime": "a formula",
            "flags": [], "reference_ms": 1.5, "others": 0.02,
            "samples": {"trial_ms": trial.round(4).tolist(), "waited": waited.round(3).tolist()},
            "measured_at": EPOCH.isoformat(), "seconds": 1.0}


def evaluate(config: FastViTConfig, budget_ms: float, rng: np.random.Generator, *, anchor: bool = False,
             fails: bool = False) -> dict[str, Any]:
    """A trial's record as a worker writes it, with most of the hopeless stopped early."""
    size = cost(config, RESOLUTION, num_classes=CLASSES)
    record: dict[str, Any] = {"worker": "demo", "outcome": "running", "config": config.to_dict(),
                              "config_key": config.key(), "params_m": size.params_m, "gmacs": size.gmacs}
    guess = latency_ms(config)
    if not anchor and guess > 1.3 * budget_ms:
        predicted = {"origin": "predicted", "latency_ms": guess, "by": "size law", "device": "synthetic"}
        return record | {"outcome": "over_budget", "reason": f"predicted at {guess:.2f} ms", "latency": predicted,
                         "cost_s": {"overhead": 0.0}}
    if fails:
        return record | {"outcome": "failed", "reason": "Failure: the loss became NaN at step 12",
                         "traceback": "Traceback (most recent call last):\n  <made up by the demo>\n",
                         "cost_s": {"latency": 1.0, "overhead": 0.1}}
    found = measurement(config, rng)
    record |= {"latency": found, "cost_s": {"latency": 1.0, "overhead": 0.05}}
    if not anchor and found["ci_low_ms"] > budget_ms:
        return record | {"outcome": "over_budget", "reason": f"measured at {found['latency_ms']:.3f} ms"}
    final = float(np.clip(quality(config) + rng.normal(0, 0.012), 0.02, 0.98))
    rungs = [STEPS // 4, STEPS // 2, STEPS]
    stopped = not anchor and final < 0.62 and rng.random() < 0.8
    if stopped:
        rungs = rungs[: int(rng.integers(1, 3))]
    scores = [{"step": step, "score": round(final * (1 - 0.6 * math.exp(-3 * step / STEPS)) + rng.normal(0, 0.005), 4)
               if step < STEPS else final, "seconds": 0.11 * step} for step in rungs]
    curve = [[step, round(0.5 + 2.3 * math.exp(-2.2 * final * step / STEPS) + float(rng.normal(0, 0.03)), 4)]
             for step in range(1, rungs[-1] + 1, 2)]
    record["cost_s"]["proxy"] = 0.11 * rungs[-1]
    record |= {"scores": scores, "curve": curve, "score_sd": 0.012, "score": scores[-1]["score"]}
    if stopped:
        return record | {"outcome": "stopped_early", "reason": f"hopeless at step {rungs[-1]}: far below the front"}
    return record | {"outcome": "complete", "score": final, "score_origin": "trained"}


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


def make(path: Path, trials: int = 60, *, budget_ms: float = 1.5, seed: int = 0, state: str = "finished",
         finalists: int = 8) -> Run:
    """Make a demo run in the new folder `path`, operation by operation as a worker would.

    Raises:
        UsageError: the folder exists already.
    """
    import optuna
    from optuna.storages import JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, rng = SearchSpace.load("default"), np.random.default_rng(seed)
    run = Run.create(path, {
        "synthetic": True, "budget_ms": budget_ms, "device": "synthetic", "origin": "measured",
        "resolution": RESOLUTION, "task": "synthetic", "task_fingerprint": "synthetic", "num_classes": CLASSES,
        "space": {"name": space.name, "toml": space.source}, "seed": seed, "steps": STEPS, "storage": "journal",
        "versions": {"optuna": optuna.__version__}, "created": EPOCH.isoformat(), "state": state,
        "elapsed_s": 8.0 * (trials + 7)})
    backend, logs = _backend()
    study = optuna.create_study(study_name=run.meta["id"], storage=JournalStorage(backend),
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
        run.update(trials_told=len(run.all_records()))
    return run


def confirm(run: Run, space: SearchSpace, count: int, rng: np.random.Generator) -> None:
    """What confirming does at the end of a search: more seeds for the finalists, latencies measured again."""
    from nas.search import confirmation

    chosen = confirmation.finalists(run.records(), run.meta["budget_ms"], count)
    confirmation.enqueue(run, chosen)
    for _ in confirmation.waiting_trials(run):
        trial = run.study.ask()
        config = FastViTConfig.from_dict(trial.user_attrs["config"])
        record = evaluate(config, run.meta["budget_ms"], rng, anchor=True)
        trial.set_user_attr("record", record)
        run.study.tell(trial, [record["latency"]["latency_ms"], record["score"]])
    run.study.set_user_attr(confirmation.LATENCY_ATTR, {
        r.config_key: [measurement(FastViTConfig.from_dict(r.config or {}), rng)] for r in chosen})


def foreign(study: optuna.Study, ms: float, rng: np.random.Generator) -> None:
    """An anchor from timm: measured like the others, without a configuration and without a score."""
    from optuna.trial import TrialState

    study.enqueue_trial({}, user_attrs={"anchor": "timm:repvit_m0_9"})
    trial = study.ask()
    found = measurement(PRESETS["t8"], rng) | {"name": "timm:repvit_m0_9", "config_key": "timm:repvit_m0_9"}
    for key in ("latency_ms", "ci_low_ms", "ci_high_ms"):
        found[key] *= ms
    trial.set_user_attr("record", {"worker": "demo", "outcome": "complete", "anchor": "timm:repvit_m0_9",
                                   "latency": found, "params_m": 5.5, "gmacs": 0.068, "cost_s": {"latency": 1.0}})
    study.tell(trial, state=TrialState.PRUNED)


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
    from optuna.trial import TrialState

    study.enqueue_trial(space.encode(config), user_attrs={"preset": preset} if preset else None)
    trial = study.ask()
    space.suggest(trial)
    record = evaluate(config, budget_ms, rng, anchor=preset is not None, fails=fails)
    trial.set_user_attr("record", record)
    if record["outcome"] == "complete":
        study.tell(trial, [record["latency"]["latency_ms"], record["score"]])
    else:
        study.tell(trial, state=TrialState.FAIL if record["outcome"] == "failed" else TrialState.PRUNED)


if __name__ == "__main__":
    made = make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60)
    print(made.path)
