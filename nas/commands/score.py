"""`search.py score`: what presets and configurations are estimated to reach on a user's images."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from nas.commands.data_words import add_data

if TYPE_CHECKING:
    from fastvit.config import FastViTConfig
    from nas.data import Task
    from nas.estimate.judge import Judge
    from nas.runs.run import Run


def register(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "score", help="estimate the accuracy of networks on your images", allow_abbrev=False,
        description="The accuracy of whole networks on a task, estimated under one protocol, with its standard "
                    "deviation and what it rests on. Without --minutes nothing is trained: the answer comes from what "
                    "ships, and from the trials of --run.")
    parser.add_argument("targets", nargs="+", metavar="NETWORK", help="presets, or JSON files of configurations")
    add_data(parser, "an image folder (train/ and val/, or one folder a class), or builtin (default: the images of "
                     "--run)")
    parser.add_argument("--resolution", type=int, metavar="PX", help="input size (default: the task's own)")
    parser.add_argument("--minutes", type=float, metavar="M", help="train for up to M minutes before answering")
    parser.add_argument("--run", metavar="RUN", 
                        help="the folder of a run on the same images, whose trials are evidence")
    parser.add_argument("--seed", type=int, help="seed of splits and training (default 0, or the run's)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handler="nas.commands.score:score")


def score(args: argparse.Namespace) -> int:
    """Print the estimates; every network that was named is in the answer, in that order."""
    from fastvit.presets import named_config
    from nas.data import load_task
    from nas.data.layout import data_of
    from nas.errors import UsageError
    from nas.runs.run import Run

    _check(args)
    args.data = data_of(args.data, args.train_dir, args.val_dir)
    named = [named_config(target) for target in args.targets]
    run = Run.open(args.run) if args.run else None
    if args.data is None and run is None:
        raise UsageError("--data is missing: name an image folder or builtin, or a run with --run")
    data = args.data if args.data is not None or run is None else run.meta.task
    resolution = args.resolution or (run.meta.resolution if run else None)
    seed = args.seed if args.seed is not None else run.meta.seed if run else 0
    task = load_task(data, resolution=resolution, seed=seed)
    if run is not None and task.fingerprint != run.meta.task_fingerprint:
        raise UsageError(f"--run {args.run}: its images are not those of --data {data} at {task.resolution} px and "
                         f"seed {seed}; leave --data, --resolution and --seed out to take the run's own")
    if task.note:
        print(task.note, file=sys.stderr)
    configs = [config for _, config in named]
    found = judge(task, data, run, configs, args.minutes, seed).estimate(configs)
    rows: list[dict[str, Any]] = [
        {"name": name, "config_key": config.key(), "task": task.name, "score": round(one.score, 5),
         "score_sd": round(one.sd, 5), "unit": one.unit, "from": one.origin, "resolution": task.resolution,
         "interval_50": [round(end, 5) for end in one.interval_50],
         "interval_90": [round(end, 5) for end in one.interval_90], "apart_sd": round(one.apart_sd, 5)}
        for (name, config), one in zip(named, found, strict=True)]
    print(json.dumps(rows) if args.json else table(rows))
    return 0


def _check(args: argparse.Namespace) -> None:
    from nas.errors import UsageError

    if args.resolution is not None and args.resolution < 32:
        raise UsageError(f"--resolution {args.resolution}: expected at least 32")
    if args.seed is not None and args.seed < 0:
        raise UsageError(f"--seed {args.seed}: expected at least 0")
    if args.minutes is not None and (not math.isfinite(args.minutes) or args.minutes <= 0):
        raise UsageError(f"--minutes {args.minutes:g}: expected a number above 0")


def judge(task: Task, data: str, run: Run | None, configs: list[FastViTConfig], minutes: float | None,
          seed: int) -> Judge:
    """Who answers, after what may be trained within `minutes`."""
    from nas.data import DRAWN
    from nas.estimate.judge import judge_of, photograph_judge, run_judge, run_whole
    from nas.estimate.surrogate import evidence
    from nas.proxy.recipe import RUNGS
    from nas.search.confirmed import search_trials

    trials = search_trials(run) if run else []
    if task.name in DRAWN:
        steps = run.meta.steps if run else RUNGS[-1]
        rows = evidence(trials)
        if minutes is not None:
            rows = [*rows, *_short_runs(task, configs, minutes, steps, seed)]
        return judge_of(task.name, task.fingerprint, steps, rows)
    if minutes is None:
        return run_judge(run.meta, trials) if run else photograph_judge(task.fingerprint, len(task.train))
    from nas.workers.short_runs import train_short_runs

    plan, trained = train_short_runs(configs, data, resolution=task.resolution, seed=seed, minutes=minutes,
                                     say=lambda text: print(text, file=sys.stderr))
    short = {configs[index]: (one.score, one.score_sd) for index, one in trained.items()}
    return photograph_judge(task.fingerprint, len(task.train), short, plan.steps,
                            of_run=run_whole(run.meta, trials) if run else ())


def _short_runs(task: Task, configs: list[FastViTConfig], minutes: float, steps: int, seed: int) -> list[Any]:
    """Proxies of `configs` that ship no score, trained one after the other until the minutes are over."""
    import time

    from nas import proxy
    from nas.bench.table import shipped_scores
    from nas.errors import Failure
    from nas.estimate.surrogate import Evidence

    until, found = time.monotonic() + 60 * minutes, []
    known = shipped_scores(task.fingerprint, seed)
    for number, config in enumerate(configs, 1):
        if config.key() in known:
            continue
        if time.monotonic() > until:
            print(f"the time is over: {len(configs) - number + 1} networks were not trained", file=sys.stderr)
            break
        print(f"training a proxy, {number} of {len(configs)}", file=sys.stderr)
        try:
            result = proxy.score(config, task, steps=steps, seed=seed,
                                 on_rung=lambda _: time.monotonic() > until)
        except Failure as error:
            print(f"{config.key()}: {error}", file=sys.stderr)
            continue
        found.append(Evidence(config, result.steps, result.score, result.score_sd))
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The estimates as text, under one line that says what they are."""
    one = rows[0]
    width = max(12, *(len(row["name"]) + 1 for row in rows))
    lines = [f"estimated on {one['task']}, {one['resolution']} px ({one['unit']})",
             f"{'':<{width}}{'score':>8}{'± sd':>8}{'90 % interval':>18}{'sd beside presets':>19}"]
    for row in rows:
        low, high = row["interval_90"]
        lines.append(f"{row['name']:<{width}}{row['score']:>8.3f}{row['score_sd']:>8.3f}"
                     f"{f'[{low:.3f}, {high:.3f}]':>18}{row['apart_sd']:>19.3f}")
    return "\n".join([*lines, f"from {one['from']}"])
