"""Whether the words of a command fit the run that they go on with."""

from __future__ import annotations

import argparse
from typing import Any

from nas.errors import UsageError
from nas.runs.run import Run
from space import SearchSpace


def check_same(run: Run, args: argparse.Namespace) -> None:
    """Refuse what a run cannot change any more. What was not said is as the run has it.

    Raises:
        UsageError: names the option, its value, and what the run has.
    """
    from nas.data import absolute
    from nas.proxy.recipe import rungs

    meta = run.meta
    if args.budget_ms is not None and args.budget_ms != meta.budget_ms:
        raise UsageError(f"--budget-ms {args.budget_ms:g}: the run {run.path} has a budget of "
                         f"{meta.budget_ms:g} ms; `search.py front {run.path} --budget-ms {args.budget_ms:g}` "
                         "shows it under another")
    had = meta.budgets
    if args.budgets is not None and args.budgets.replace(" ", "") != (shown := ",".join(f"{b:g}" for b in had)):
        _refuse(run, "budgets", args.budgets, shown)
    if args.data is not None and absolute(args.data) != meta.task:
        _refuse(run, "data", args.data, meta.task)
    check_device_same(run, args)
    if args.space is not None and SearchSpace.load(args.space).source != meta.space.toml:
        _refuse(run, "space", args.space, meta.space.name)
    if (parent := getattr(args, "parent", None)) is not None:
        _refuse(run, "parent", parent, meta.parent or "none")
    if args.steps is not None and rungs(args.steps)[-1] != meta.steps:
        _refuse(run, "steps", args.steps, meta.steps)
    for name in ("params_m", "size_mb", "memory_mb"):
        limit, had_limit = getattr(args, f"max_{name}", None), getattr(meta, f"most_{name}")
        if limit is not None and limit != had_limit:
            _refuse(run, f"max-{name.replace('_', '-')}", limit, had_limit)
    for name in ("resolution", "seed", "sampler", "precision"):
        given = getattr(args, name, None)
        if given is not None and given != getattr(meta, name):
            _refuse(run, name, given, getattr(meta, name))


def check_device_same(run: Run, args: argparse.Namespace) -> None:
    """Refuse another device than the run's. Raises as check_same."""
    from nas.latency.devices import canonical

    if args.device is not None and (device := canonical(args.device)) != canonical(run.meta.device):
        _refuse(run, "device", device, run.meta.device)


def _refuse(run: Run, option: str, given: Any, had: Any) -> None:
    raise UsageError(f"--{option} {given}: the run {run.path} was begun with {had}; leave the option out, "
                     "or name a new folder with --run")
