"""Start a run, share it out to worker processes, show how far it is, and end it cleanly."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from fastvit.presets import PRESETS, SUCCESSORS
from nas.clock import now
from nas.errors import Failure, UsageError
from nas.latency.noise import others_here, others_words
from nas.proxy.pretrained import FILE as PARENT
from nas.proxy.pretrained import Pretrained
from nas.runs.folder import check_writable
from nas.runs.meta import ConfirmationState, RunMeta, SpaceSource
from nas.runs.run import Run, RunState, Trial, launcher
from nas.runs.storage import ENVIRONMENT
from nas.runs.trial import Outcome, Request
from nas.search.confirmation import FINALISTS, SHARE, Confirmation, parents_seconds, update_posterior
from nas.search.confirmed import search_trials
from nas.search.feasibility import feasibility
from nas.search.full_training import SHARE as FULL_SHARE
from nas.search.full_training import FullTraining, waiting_to_train
from nas.search.plan import SearchPlan, words
from nas.versions import versions
from nas.workers.planning import plan_search
from nas.workers.pool import Pool
from nas.workers.resources import default_workers, share, this_machine, too_many
from space import SearchSpace

DEFAULT_MINUTES = 8.0
ENOUGH = 2.0  # times what further parents take: with less time than that for confirming, nothing is confirmed
NOTHING_MEETS_THE_BUDGET = 3
SIZES = ("params_m", "size_mb", "memory_mb")  # what --max-... limits
DEFAULTS = {"data": "builtin", "device": "onnxruntime", "space": "default", "seed": 0, "sampler": "surrogate"}


def check_budget(budget_ms: float) -> None:
    if not math.isfinite(budget_ms) or budget_ms <= 0:
        raise UsageError(f"--budget-ms {budget_ms:g}: expected a number above 0, such as --budget-ms 2")


def check_limits(args: argparse.Namespace) -> None:
    for name, low in (("trials", 1), ("workers", 1), ("steps", 1), ("resolution", 32), ("seed", 0),
                      ("confirm", 0), ("train_images", 50 * 64)):
        value = getattr(args, name, None)
        if value is not None and value < low:
            raise UsageError(f"--{name} {value}: expected at least {low}")
    for name in SIZES:
        value = getattr(args, f"max_{name}", None)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"--max-{name.replace('_', '-')} {value:g}: expected a number above 0")
    if args.minutes is not None and (not math.isfinite(args.minutes) or args.minutes <= 0):
        raise UsageError(f"--minutes {args.minutes:g}: expected a number above 0")


def start(args: argparse.Namespace, parent: Pretrained | None = None) -> Run:
    """Make a run's folder and its study from the command's words; the presets wait in its queue.

    Args:
        parent: of whose weights the networks that are trained at full width start from slices.

    Raises:
        UsageError: budget, data, space, device or folder cannot be used.
    """
    from nas.data import DRAWN, absolute, load_task
    from nas.latency import check_device
    from nas.latency.cache import machine
    from nas.latency.devices import check_setting, runtime
    from nas.latency.runtime import Setting
    from nas.proxy.recipe import RECIPE, rungs

    check_budget(args.budget_ms)
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    space = SearchSpace.load(args.space)
    check_device(args.device)
    chosen = runtime(args.device)
    precision = getattr(args, "precision", None) or chosen.precisions[0]
    anchors = check_anchors(getattr(args, "anchor", []))
    task = load_task(args.data, resolution=args.resolution, seed=args.seed)
    check_setting(chosen, Setting(task.resolution, precision=precision))
    if task.note:
        print(task.note, file=sys.stderr)
    minutes = args.minutes or (DEFAULT_MINUTES if args.trials is None else None)
    search_minutes = minutes and minutes * (1 - (FULL_SHARE if args.confirm != 0 else 0.0))
    # Who names the steps of proxies wants proxies.
    plan = None if args.data in DRAWN or args.steps else plan_search(
        task, search_minutes, device=args.device, budget_ms=args.budget_ms,
        workers=args.workers or default_workers(this_machine()))
    if args.data not in DRAWN:
        print(words(plan, search_minutes, minutes, rungs(args.steps)[-1]), file=sys.stderr)
    name = time.strftime("%Y%m%d-%H%M%S") + f"-{task.name}-{args.budget_ms:g}ms"
    run = Run.create(Path(args.run) if args.run else Path("runs") / name, RunMeta(
        id="", budget_ms=args.budget_ms, budgets=tuple(args.budgets), device=args.device, resolution=task.resolution,
        precision=precision, most_params_m=getattr(args, "max_params_m", None),
        most_size_mb=getattr(args, "max_size_mb", None), most_memory_mb=getattr(args, "max_memory_mb", None),
        task=absolute(args.data), task_fingerprint=task.fingerprint, num_classes=task.num_classes,
        space=SpaceSource(space.name, space.source), seed=args.seed,
        steps=plan.steps if plan else rungs(args.steps)[-1], plan=plan.to_dict() if plan else None, recipe=RECIPE,
        sampler=args.sampler, parent=None if parent is None else parent.name,
        versions=versions("fastvit-explorer", "torch", "optuna", "onnxruntime", "timm", "numpy"),
        host={"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.platform(),
              "processor": machine()}), args.storage or os.environ.get(ENVIRONMENT) or None)
    if parent is not None:
        parent.write(run.path / PARENT)
    run.create_study()
    enqueue_presets(run)
    for name in anchors:
        run.study.enqueue_trial({}, user_attrs=Request(anchor=name, timm=name).to_attrs())
    return run


def check_anchors(names: Sequence[str]) -> list[str]:
    """The models of timm to be measured beside the front, each once.

    Raises:
        UsageError: timm has no such model.
    """
    from nas.latency.network import TIMM, Network

    for name in names:
        if not name.startswith(TIMM):
            raise UsageError(f"--anchor {name}: expected {TIMM}NAME (the presets are anchors already; a variant "
                             "becomes one by `search.py import`)")
        Network.of(name).check()
    return list(dict.fromkeys(names))


def enqueue_presets(run: Run) -> None:
    """Put those presets in the queue that the run does not have yet: all, unless a kill came between."""
    space = SearchSpace.from_toml(run.meta.space.toml)
    there = {trial.user_attrs.get("preset") for trial in run.study.get_trials(deepcopy=False)}
    for preset, config in PRESETS.items():
        if preset not in there:
            if config in space:
                space.enqueue(run.study, config, Request(preset=preset).to_attrs())
            else:
                run.study.enqueue_trial({}, user_attrs=Request(preset=preset, config=config).to_attrs())
    anchors = {trial.user_attrs.get("anchor") for trial in run.study.get_trials(deepcopy=False)}
    for name, config in SUCCESSORS.items():  # in a space that holds them
        if name not in anchors and config in space:
            space.enqueue(run.study, config, Request(anchor=name).to_attrs())


def launch(run: Run, args: argparse.Namespace) -> int:
    """Run workers until a limit is reached, print the front, and return the exit code.

    Raises:
        UsageError: the run is going on already.
        Failure: workers keep dying, the first trials fail alike, or the storage is gone.
    """
    check_writable(run.path)
    lock = FileLock(run.path / "launcher.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        going_on = True
    else:
        going_on = run.state() == RunState.RUNNING
    if going_on:
        lock.release()
        raise UsageError(f"{run.path} is running already (process {run.progress.launcher_pid}); "
                         f"`search.py status {run.path}` shows how far it is")
    with lock:
        try:
            return _launch(run, args)
        except OSError as error:
            raise Failure(f"{error.filename or run.path} cannot be written: {error.strerror or error}; nothing that "
                          f"was recorded is lost, go on with `search.py resume {run.path}` when it can") from error


def to_confirm(asked: int | None, meta: RunMeta, minutes: float | None, workers: int) -> int:
    """How many points of the front are to be confirmed, at most: none by default where the time for it would go into
    the parents of the further seeds."""
    if asked is None and minutes and 60 * minutes * SHARE * workers < ENOUGH * parents_seconds(meta):
        return 0
    return FINALISTS if asked is None else asked


def trains_whole(meta: RunMeta, minutes: float | None, images: int | None, asked: int | None) -> bool:
    """Whether a run ends with its finalists trained at full width: on a user's images, where there is a time for it
    or a number of images, and nobody asked for none."""
    from nas.data import DRAWN

    return meta.task not in DRAWN and bool(minutes or images) and asked != 0


def _launch(run: Run, args: argparse.Namespace) -> int:
    from nas.proxy.parent import PRESET, parent_path
    from nas.report.printed import front_table, write_report
    from nas.workers.liveness import requeue_abandoned, tidy

    if (note := run.repair()) is not None:
        print(note, file=sys.stderr)
    if not run.meta.shared:
        run.create_study()
    enqueue_presets(run)
    if count := requeue_abandoned(run):
        print(f"{count} trials that an earlier worker left unfinished are tried again", file=sys.stderr)
    machine = this_machine()
    workers = args.workers or default_workers(machine)
    if warning := too_many(machine, workers):
        print(warning, file=sys.stderr)
    done = sum(r.counted for r in search_trials(run))
    trials, goal = args.trials, run.progress.trial_limit
    if not (trials or args.minutes) and goal is not None and run.progress.state != RunState.FINISHED:
        # Interrupted, and told nothing new: on to the number of trials that it was started with.
        trials = max(0, goal - done)
    minutes = args.minutes or (DEFAULT_MINUTES if trials is None else None)
    run.tell_to_stop(False)
    earlier = float(run.progress.elapsed_s)
    images = getattr(args, "train_images", None)
    whole = trains_whole(run.meta, minutes, images, args.confirm)
    unfinished = (whole and not (args.trials or args.minutes)
                  and run.progress.confirming == ConfirmationState.NOW)
    if unfinished:
        minutes = None  # interrupted while its finalists were trained: on to the end of that, and no further
    count = 0 if whole else to_confirm(args.confirm, run.meta, minutes, workers)
    if count == 0 and args.confirm is None and not whole:
        print(f"{minutes:g} minutes are too few to train the parents of further seeds, so no point is confirmed and "
              f"all the time is for the search (--confirm {FINALISTS} confirms all the same)", file=sys.stderr)
    searching = 60 * (minutes or 0) * (1 - (FULL_SHARE if whole else SHARE if count else 0.0))
    run.update(state=RunState.RUNNING, **launcher(), resumed=now(), workers=workers,
               **_left(minutes, searching, 0.0),
               trial_limit=None if trials is None else done + trials)
    confirmation: Confirmation | FullTraining = (
        FullTraining(run, args.confirm, images, unfinished=unfinished) if whole else Confirmation(run, count))
    print(f"run {run.path}: {run.meta.task}, {run.meta.resolution} px, {run.meta.device}, "
          f"budget {run.meta.budget_ms:g} ms, {workers} workers", file=sys.stderr)
    plan = SearchPlan.of(run.meta.plan)
    if plan is None and not parent_path(run.meta.task_fingerprint, run.meta.steps, run.meta.seed).exists():
        print(f"first the parent, {PRESET.upper()}, is trained on these images, once: every proxy starts from a slice "
              "of its weights", file=sys.stderr)
    if found := _feasible(run, search_trials(run)):  # before the run, where the device was calibrated
        print(found, file=sys.stderr)
    if said := others_words(others_here()):
        print(said, file=sys.stderr)
    begun = time.monotonic()
    signals = _Signals(run)
    pool, state = Pool(run, share(machine, workers)), RunState.INTERRUPTED
    try:
        with signals:
            pool.start()
            _watch(run, pool, signals, confirmation, begun, earlier, minutes, searching, trials, done)
        state = RunState.INTERRUPTED if signals.count else RunState.FINISHED
    finally:
        with contextlib.suppress(Failure, OSError):  # a storage that is gone is what ended the run
            pool.kill()
            run.update(state=state, elapsed_s=earlier + time.monotonic() - begun, launcher_pid=None)
            run.update(trials_told=len(run.trials()))
            tidy(run)
    confirmation.finish()
    with contextlib.suppress(Failure, OSError):
        keep_predictor(run)
    with contextlib.suppress(Failure, OSError):
        update_posterior(run)  # what confirming trained is evidence too
    front = write_report(run)
    print(json.dumps(front) if args.json else front_table(front))
    return _closing_words(run, front, signals, confirmation, args)


def keep_predictor(run: Run) -> None:
    """Keep what this run has measured for the next one on this device and at this resolution."""
    from nas.latency.predictor import Predictor

    predictor = Predictor.of_run(run.meta.device, run.meta.resolution, run.meta.precision)
    # A simulation (tests/nas/stand_in.py) names no runtime; its latencies are nobody's.
    measured = [t for t in search_trials(run) if t.latency is not None and t.latency.runtime]
    if predictor.update(measured) and predictor.ready:
        predictor.save()


def _others(records: Sequence[Trial]) -> float:
    """Share of the machine that other processes took while this run measured: the median of its measurements."""
    shares = [t.latency.others for t in records if t.latency is not None and t.latency.reference_ms]
    return float(np.median(shares)) if shares else 0.0


def _feasible_yet(run: Run, records: Sequence[Trial], args: argparse.Namespace) -> str | None:
    """What to say where a limit ended the run before it found what is predicted to be there."""
    budget = run.meta.budget_ms
    found = feasibility(run, records)
    if found is None or found.smallest_ms > budget:
        return None
    limit = f"--trials {args.trials}" if args.trials else "the time limit"
    more = max(20, 2 * (args.trials or 0))
    return (f"{limit} ended the run before it found a configuration that meets {budget:g} ms; "
            f"{found.smallest_ms:.2g} ms is predicted to be reachable, and {100 * found.shares[budget]:.0f} % of "
            f"random configurations to meet the budget. Go on with: python search.py resume {run.path} --trials {more}")


def _closing_words(run: Run, front: dict[str, Any], signals: _Signals, confirmation: Confirmation | FullTraining,
                   args: argparse.Namespace) -> int:
    say = lambda text: print(text, file=sys.stderr)  # noqa: E731
    if confirmation.trouble:
        say(confirmation.trouble)
    records = search_trials(run)
    say(f"\nthe front is in {run.path / 'front.html'} and {run.path / 'front.csv'}")
    points = [point for point in front["points"] if not point["preset"]] or front["points"]
    if points:
        found = front["recommendation"]
        trial = points[-1]["trial"] if found is None else found["trial"]
        say(f"export it:   python search.py export {run.path} --trial {trial} --name fastvit_mine")
    if left := waiting_to_train(run):
        say(f"{left} more network{'s' * (left > 1)} had no time left to be trained at full width; "
            f"`search.py resume {run.path}` trains what waits")
    if signals.count:
        say(f"go on with:  python search.py resume {run.path}")
        return 143 if signals.last == signal.SIGTERM else 130
    failures = [r for r in records if r.outcome == Outcome.FAILED]
    if failures and not any(r.score is not None for r in records):
        raise Failure(f"every trial failed, the last with: {failures[-1].reason}; "
                      f"`search.py status {run.path}` counts them")
    if said := others_words(_others(records), "during this run "):
        say(said)
    if not points:
        if (found := _feasible_yet(run, records, args)) is not None:
            say(found)
            return NOTHING_MEETS_THE_BUDGET
        measured = [r for r in records if r.origin == "measured" and r.latency_ms]
        nearest = min(measured, key=lambda r: r.latency_ms or math.inf, default=None)
        miss = f"; the nearest miss is {nearest.latency_ms:.3f} ms ({nearest.words})" if nearest else ""
        say(f"nothing meets {front['budget_ms']:g} ms on {front['device']} at {front['resolution']} px{miss}. "
            "Raise --budget-ms, lower --resolution, or give a --space that reaches smaller networks.")
        return NOTHING_MEETS_THE_BUDGET
    return 0


class _Signals:
    """Ctrl-C once: end after the current trials. Twice: abort. SIGTERM ends like the first Ctrl-C."""

    def __init__(self, run: Run) -> None:
        self.run, self.count, self.last = run, 0, 0

    def __enter__(self) -> _Signals:
        self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        self.count, self.last = self.count + 1, number
        # Only noted here: the storage may be in the middle of an answer. The launcher's loop tells the workers.
        if self.count == 1:
            os.write(2, b"\nending after the current trials; once more aborts\n")
        elif self.count > 2:
            raise KeyboardInterrupt


def _watch(run: Run, pool: Pool, signals: _Signals, confirmation: Confirmation | FullTraining, begun: float,
           earlier: float, minutes: float | None, searching: float, trials: int | None, done: int) -> None:
    from nas.workers.worker import idle_path

    seen: set[int] = {r.trial for r in search_trials(run) if r.outcome.is_finished}
    saved, told = 0, False
    with _progress(minutes, trials) as bar:
        while True:
            records = search_trials(run)
            for record in records:
                if record.outcome.is_finished and record.trial not in seen:
                    seen.add(record.trial)
                    _announce(bar, record, time.monotonic() - begun)
            elapsed = time.monotonic() - begun
            best = max((r.score for r in records if r.score is not None and r.meets_budget(run.meta.budget_ms)),
                       default=None)
            counted = sum(r.counted and r.outcome.is_finished for r in records) - done
            bar.n = min(bar.total, counted if minutes is None else round(elapsed))
            bar.set_postfix_str(f"{counted} trials" + ("" if best is None else f", best {best:.3f}"))
            alive = pool.supervise(sum(r.outcome.is_finished and not r.retried for r in records),
                              replace=not signals.count)
            if not alive or signals.count > 1:
                break
            if signals.count == 1 and not told:
                told = True
                run.tell_to_stop()
            if elapsed - saved > 10:
                saved = int(elapsed)
                with contextlib.suppress(OSError):  # a full disk is the workers' to report; they wait for space
                    run.update(elapsed_s=earlier + elapsed, trials_told=len(run.trials()),
                               **_left(minutes, searching, elapsed))
            _check_alike(records)
            left = None if minutes is None else 60 * minutes - elapsed
            idle = all(idle_path(run, worker.name).exists() for worker in pool.processes)
            if not signals.count and (said := confirmation.step(idle=idle, seconds_left=left, workers=alive)):
                bar.write(f"{elapsed:6.1f} s  {said}", file=sys.stderr)
            if records and all(r.latency for r in records if r.preset) and (found := _feasible(run, records)):
                bar.write(f"{elapsed:6.1f} s  {found}", file=sys.stderr)
            time.sleep(0.5)


def _left(minutes: float | None, searching: float, elapsed: float) -> dict[str, float | None]:
    """What workers are told of the time that is left, by the launcher's own stopwatch: clocks may be set back."""
    if minutes is None:
        return {"seconds_left": None, "search_seconds_left": None}
    return {"seconds_left": 60 * minutes - elapsed, "search_seconds_left": searching - elapsed}


def _feasible(run: Run, records: list[Trial]) -> str:
    """How much of the space meets the budget, in words: once in a run, as soon as that can be predicted."""
    if run.progress.feasible is not None or (found := feasibility(run, records)) is None:
        return ""
    run.update(feasible=found.words)
    return found.words


def _check_alike(records: list[Trial]) -> None:
    ended = [r for r in records if r.outcome.is_finished and r.searched]
    first = ended[:5]
    if len(first) == 5 and len({r.reason for r in first}) == 1 and all(r.outcome == Outcome.FAILED for r in first):
        raise Failure(f"the first five trials failed alike: {ended[0].reason}")


@contextlib.contextmanager
def _progress(minutes: float | None, trials: int | None) -> Iterator[Any]:
    from tqdm import tqdm

    total, unit = (trials or 1, "trial") if minutes is None else (round(60 * minutes), "s")
    with tqdm(total=total, unit=unit, file=sys.stderr, disable=None, leave=False,
              bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
        bar.total = total
        yield bar


def _announce(bar: Any, record: Trial, elapsed: float) -> None:
    if record.outcome == Outcome.OVER_BUDGET and record.origin == "predicted":
        return
    what = (record.preset or "").upper() or f"trial {record.trial}"
    latency = "" if record.latency_ms is None else f" {record.latency_ms:.3f} ms"
    score = "" if record.score is None else f" score {record.score:.3f}"
    reason = "" if record.outcome == Outcome.COMPLETE else f" ({record.outcome.words}: {record.reason})"
    bar.write(f"{elapsed:6.1f} s  {what:<10}{latency}{score}{reason}  {record.words if score else ''}", file=sys.stderr)
