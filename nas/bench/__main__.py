"""`python -m nas.bench make | parent | pairs | truth | law | show`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.bench.real_images import TABLE as REAL_IMAGES
from nas.bench.table import TABLE, append_row, bench_configs, read_bench, read_rows


def make(args: argparse.Namespace) -> None:
    """Train what is missing, one configuration after the other; any number of processes may run this at once."""
    import torch

    from nas.data import load_task
    from nas.errors import Failure
    from nas.files import cache_folder
    from nas.proxy.parent import parent_of
    from nas.proxy.recipe import ALONE, RECIPE, RUNGS
    from nas.proxy.train import Trainer

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    steps = sorted(int(part) for part in args.steps.split(","))
    seeds = [int(part) for part in args.seeds.split(",")]
    task = load_task(args.task)
    recipe, suffix = (ALONE, "") if args.alone or args.branches else (RECIPE, f"-r{RECIPE}")
    locks = cache_folder("bench")
    named: list[tuple[str | None, FastViTConfig]] = list(PRESETS.items()) if args.presets else [
        (None, config) for config in bench_configs(args.configs)]
    for seed in seeds:
        parent = None if recipe == ALONE else parent_of(task, RUNGS[-1], seed)
        for preset, config in named:
            own = {"key": config.key(), "task": args.task, "seed": seed, "branches": args.branches, "recipe": recipe}
            job = f"{config.key()}-{args.task}-{seed}-b{args.branches}{suffix}"
            done = {row["steps"] for row in read_rows(args.table) if own.items() <= row.items()}
            if done >= set(steps):
                continue
            try:
                with FileLock(locks / f"{job}.lock", timeout=0):
                    trainer = Trainer(config, task, seed=seed, branches=args.branches, parent=parent)
                    trainer.load(locks / f"{job}.pt")
                    size = cost(config, 64)
                    for step in steps:
                        if step in done or step < trainer.step:
                            continue
                        try:
                            trainer.to(step)
                        except Failure as error:
                            print(f"{job}: {error}", file=sys.stderr)
                            break
                        found = trainer.evaluate()
                        append_row(own | {
                            "preset": preset, "config": config.to_dict(), "gmacs_64": size.gmacs,
                            "params_m": size.params_m, "task_fingerprint": task.fingerprint, "steps": step,
                            "score": found.score, "score_sd": found.score_sd, "parts": found.parts,
                            "cpu_seconds": round(found.seconds, 2),
                            "device": trainer.device.type, "torch": version("torch")}, args.table)
                        trainer.save(locks / f"{job}.pt")
                        print(f"{job} {step} steps: {found.score:.4f} ({found.seconds:.0f} s)", flush=True)
            except Timeout:
                continue


def parent(args: argparse.Namespace) -> None:
    """Train the parents of a drawn task anew, as they ship; rows from older ones are to be made anew as well."""
    from nas.data import load_task
    from nas.proxy.parent import SEEDS, SHIPPED, STEPS, shipped_path, train_parent

    task = load_task(args.task)
    SHIPPED.mkdir(exist_ok=True)
    for seed in range(len(SEEDS)):
        train_parent(task, STEPS, shipped_path(task.fingerprint, seed), seed)


def pairs(args: argparse.Namespace) -> None:
    """Write what the law of long runs is fitted to, from the table as it is now."""
    from nas.estimate.long_run import PAIRS, make_pairs
    from nas.files import write_atomic

    rows = [json.dumps(vars(pair) | {"config": pair.config.to_dict()}) for pair in make_pairs()]
    write_atomic(PAIRS, "[\n" + ",\n".join(rows) + "\n]\n")


def truth(args: argparse.Namespace) -> None:
    """Train whole networks on a folder of real images; what the table has is left out, what was begun goes on."""
    import torch

    from fastvit.presets import named_config
    from nas.bench.real_images import SCHEMA, truth_rows
    from nas.bench.truth import BATCH, TRUTH, read_images, train_whole
    from nas.errors import Failure
    from nas.files import cache_folder

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    images = read_images(args.data, args.pixels)
    steps = args.steps or args.epochs * (len(images.train[1]) // BATCH)
    named = [(name if name in PRESETS else None, config) for name, config in map(named_config, args.networks)]
    named += [(None, config) for config in bench_configs(args.configs)]
    folder = cache_folder("truth")
    for seed in map(int, args.seeds.split(",")):
        for preset, config in named:
            job = f"{images.name}-{args.pixels}px-{steps}-{config.key()}-{seed}"
            own = {"task": images.name, "px": args.pixels, "steps": steps, "recipe": TRUTH, "seed": seed,
                   "images": len(images.train[1])}
            truth_rows.cache_clear()
            if any(row.config == config and own.items() <= vars(row).items() for row in truth_rows(args.table)):
                continue
            try:
                with FileLock(folder / f"{job}.lock", timeout=0):
                    found = train_whole(config, images, steps=steps, seed=seed, checkpoint=folder / f"{job}.pt")
                    assert found is not None
                    append_row({"schema": SCHEMA} | own | {
                        "classes": images.classes, "batch": BATCH, "preset": preset, "key": config.key(),
                        "config": config.to_dict(), "gmacs_64": round(cost(config, 64).gmacs, 5),
                        "top1": round(found.top1, 2), "se": round(found.se, 2),
                        "test_images": len(images.test[1]), "cpu_seconds": round(found.cpu_seconds)}, args.table)
                    print(f"{job}: {found.top1:.2f} ± {found.se:.2f} ({found.cpu_seconds:.0f} s)", flush=True)
            except Timeout:
                continue
            except Failure as error:
                print(f"{job}: {error}", file=sys.stderr)


def law(args: argparse.Namespace) -> None:
    """Fit the spreads of the law of accuracy to the rows of real images, as they are now, and write them."""
    from dataclasses import asdict

    from nas.estimate.accuracy import LAW, fit_spread, shipped_whole
    from nas.files import write_json

    known = shipped_whole()
    write_json(LAW, {"rows": len(known), "spread": asdict(fit_spread(known))})


def show(args: argparse.Namespace) -> None:
    frame = read_bench(args.table)
    print(frame.groupby(["task", "recipe", "branches", "seed", "steps"]).agg(
        configs=("key", "nunique"), score=("score", "mean"), spread=("score", "std"),
        cpu_seconds=("cpu_seconds", "mean")).round(3).to_string() if len(frame) else "the table is empty")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nas.bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make", help="train what the table lacks")
    making.add_argument("--configs", type=int, default=40)
    making.add_argument("--presets", action="store_true", help="the seven presets instead")
    making.add_argument("--task", default="builtin")
    making.add_argument("--steps", default="30,60,120", help="rungs, such as 30,60,120")
    making.add_argument("--alone", action="store_true", help="from random weights instead of a slice of the parent")
    making.add_argument("--seeds", default="0")
    making.add_argument("--branches", type=int, default=0, help="0 lean, 1 over-parameterized")
    making.set_defaults(call=make)
    training = commands.add_parser("parent", help="train the parents that the proxies of a drawn task start from")
    training.add_argument("--task", default="builtin")
    training.set_defaults(call=parent)
    training = commands.add_parser("truth", help="train whole networks on real images (a long job; resumable)")
    training.add_argument("networks", nargs="*", metavar="NETWORK", help="presets, or JSON files of configurations")
    training.add_argument("--data", type=Path, required=True, help="a folder with train/ and test/")
    training.add_argument("--pixels", type=int, default=64)
    training.add_argument("--epochs", type=int, default=5)
    training.add_argument("--steps", type=int, help="of 64 images, instead of --epochs")
    training.add_argument("--seeds", default="0")
    training.add_argument("--configs", type=int, default=0, help="this many of the benchmark's configurations as well")
    training.add_argument("--table", type=Path, default=REAL_IMAGES)
    training.set_defaults(call=truth)
    lawful = commands.add_parser("law", help="fit the law of accuracy to the rows of real images as they are now")
    lawful.set_defaults(call=law)
    pairing = commands.add_parser("pairs", help="what the law of long runs is fitted to, from the table as it is now")
    pairing.set_defaults(call=pairs)
    showing = commands.add_parser("show", help="what is in the table")
    showing.set_defaults(call=show)
    for command in (making, showing):
        command.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    try:
        args.call(args)
    except ValueError as error:
        sys.exit(f"nas.bench: {error}")


if __name__ == "__main__":
    main()
