"""`search.py run | resume | status | front | worker`: the search and what it found."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.proxy.pretrained import Pretrained
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.report.recommendation import Limits

from nas.commands.data_words import add_data

_RUN_HELP = "the folder of a run"
# In the order of nas.report.recommendation.Limits.
LIMITS = {"min-score": ("S", "a score of at least S"), "max-params-m": ("M", "at most M million parameters"),
          "max-size-mb": ("MB", "weights of at most MB megabytes in float32"),
          "max-memory-mb": ("MB", "at most MB megabytes for one inference in float32, estimated"),
          "max-iphone-ms": ("MS", "at most MS milliseconds predicted for an iPhone 12 Pro at 256 px")}
SEARCHED = ("max-params-m", "max-size-mb", "max-memory-mb")  # of these, what a search can be told from the start


def register(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run", help="search (the default command)", allow_abbrev=False,
        description="Search for the FastViT configurations with the best score under a latency budget.")
    run.add_argument("--budget-ms", type=float, metavar="MS", help="latency budget of one inference, in ms")
    run.add_argument("--budgets", metavar="MS,MS", help="several budgets that one run serves, such as 1,2,4")
    add_data(run, "an image folder (train/ and val/, or one folder a class), or builtin (default)")
    run.add_argument("--resolution", type=int, metavar="PX", help="input size (default: the task's own)")
    for option in SEARCHED:
        metavar, words = LIMITS[option]
        run.add_argument(f"--{option}", type=float, metavar=metavar,
                         help=words.replace("in float32", "in the precision that is measured"))
    # Defaults stand in nas.workers.launcher.DEFAULTS: with --resume, what is not said is as the run has it.
    run.add_argument("--device", help="where latency is measured (`search.py devices`; default onnxruntime)")
    run.add_argument("--precision", help="number format that is measured: int8 on onnxruntime is what `export --int8` "
                                         "writes (default: the device's first; `search.py devices` lists them)")
    run.add_argument("--space", help="a shipped space or a TOML file (default: default)")
    run.add_argument("--run", metavar="DIR", help="folder for the run (default: a new one under runs/)")
    run.add_argument("--resume", action="store_true", help="go on when the folder of --run holds a run already")
    run.add_argument("--seed", type=int, help="seed of the search and of training (default 0)")
    run.add_argument("--sampler", choices=("surrogate", "tpe", "nsga2", "random"),
                     help="what proposes configurations (default: surrogate; docs/LOG.md compares them)")
    run.add_argument("--parent", metavar="timm:NAME|FOLDER|FILE",
                     help="pretrained weights of a FastViT, of which finalists and presets start from slices "
                          "(images of your own only)")
    run.add_argument("--anchor", action="append", default=[], metavar="timm:NAME",
                     help="a model of timm to show beside the front: measured alike, without a score; may be repeated")
    run.add_argument("--steps", type=int, help="training steps of a proxy (default: the task's)")
    _limits(run)
    _output(run)
    run.set_defaults(handler="nas.commands.run:run")

    resume = commands.add_parser("resume", help="go on with a run", allow_abbrev=False)
    resume.add_argument("run", metavar="RUN", help=_RUN_HELP)
    _device_again(resume)
    _limits(resume)
    _output(resume)
    resume.set_defaults(handler="nas.commands.run:resume")

    status = commands.add_parser("status", help="how far a run is", allow_abbrev=False)
    status.add_argument("run", metavar="RUN", help=_RUN_HELP)
    add_storage(status)
    status.add_argument("--json", action="store_true", help="one JSON document")
    status.set_defaults(handler="nas.commands.run:status")

    front = commands.add_parser("front", help="the front of a run", allow_abbrev=False)
    front.add_argument("run", metavar="RUN", help=_RUN_HELP)
    add_storage(front)
    add_choice(front)
    shown = front.add_mutually_exclusive_group()
    shown.add_argument("--imagenet", action="store_const", const="imagenet", dest="estimate",
                       help="show ImageNet top-1 as estimated from size")
    shown.add_argument("--long-run", action="store_const", const="long_run", dest="estimate",
                       help="show the score after a long run as estimated from size and the run's trials")
    group = front.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="one JSON document")
    group.add_argument("--csv", action="store_true", help="one row a point")
    front.set_defaults(handler="nas.commands.run:front")

    worker = commands.add_parser("worker", help="one more worker for a run, on this machine or another",
                                 allow_abbrev=False)
    worker.add_argument("run", metavar="RUN", help=_RUN_HELP + "; on another machine its name, with --storage")
    add_storage(worker)
    worker.add_argument("--data", metavar="DIR", help="where the run's images are on this machine")
    _device_again(worker)
    worker.add_argument("--id", help="name of the worker (default: from host and process)")
    worker.set_defaults(handler="nas.commands.run:worker")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """What a point has to meet, and what it stands beside."""
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="another budget than the run's")
    limits = parser.add_argument_group("what a network must meet besides the budget")
    for option, (metavar, words) in LIMITS.items():
        limits.add_argument(f"--{option}", type=float, metavar=metavar, help=words)
    parser.add_argument("--against", default="largest", metavar="PRESET",
                        help="the preset that points stand beside: a name, nearest, or largest (the largest that meets "
                             "the budget; default)")


def _device_again(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="URL",
                        help="the run's device, named again: FASTVIT_EXPLORER_TOKEN is sent only to an address that "
                             "was named on this machine")


def add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", metavar="URL",
                        help="where several machines share the run's trials: postgresql://, mysql:// or grpc:// "
                             "(default: the run's own folder, or FASTVIT_EXPLORER_STORAGE)")


def _limits(parser: argparse.ArgumentParser) -> None:
    add_storage(parser)
    parser.add_argument("--trials", type=int, metavar="N", help="stop after N scored or measured configurations")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help="stop after M minutes (default 8, or none with --trials)")
    parser.add_argument("--confirm", type=int, metavar="N",
                        help="finalists: on your images they and the presets under the budget are trained at full "
                             "width, on the drawn tasks trained again with two more seeds (default: up to 8; 0: none)")
    parser.add_argument("--train-images", type=int, metavar="N",
                        help="images that each finalist sees at full width (default: what the minutes allow)")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one a core, 8 at most)")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the front as one JSON document at the end")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from nas.data.layout import data_of
    from nas.errors import UsageError
    from nas.runs.run import Run
    from nas.workers.launcher import check_limits, launch, start
    from nas.workers.resume import check_same

    args.data = data_of(args.data, args.train_dir, args.val_dir)

    if args.resume and args.run and (Path(args.run) / "run.json").exists():
        check_same(Run.open(args.run, args.storage), args)
        return resume(args)
    args.budgets = budgets_of(args)
    if args.budget_ms is None:
        raise UsageError("--budget-ms is missing: give the latency budget in milliseconds, such as --budget-ms 2")
    check_limits(args)
    return launch(start(args, pretrained(args)), args)


def pretrained(args: argparse.Namespace) -> Pretrained | None:
    """The parent that --parent names.

    Raises:
        UsageError: it cannot be read as one, or nothing of the run would start from it.
        Failure: its published weights cannot be fetched.
    """
    from nas.data import DRAWN
    from nas.errors import UsageError
    from nas.export.pretrained import read_pretrained

    if args.parent is None:
        return None
    if args.data is None or args.data in DRAWN:
        raise UsageError(f"--parent {args.parent}: networks are trained at full width on images of your own only; give "
                         "--data DIR")
    return read_pretrained(args.parent)


def budgets_of(args: argparse.Namespace) -> list[float]:
    """The budgets in ascending order; the largest becomes --budget-ms.

    Raises:
        UsageError: not numbers above 0, or both options given.
    """
    from nas.errors import UsageError
    from nas.workers.launcher import check_budget

    if args.budgets is None:
        return [] if args.budget_ms is None else [args.budget_ms]
    if args.budget_ms is not None:
        raise UsageError("--budgets and --budget-ms: give one of them; --budgets 1,2,4 serves several budgets")
    try:
        found = sorted({float(part) for part in args.budgets.split(",")})
    except ValueError:
        raise UsageError(f"--budgets {args.budgets}: expected numbers with commas between, such as 1,2,4") from None
    for budget in found:
        check_budget(budget)
    args.budget_ms = found[-1]
    return found


def resume(args: argparse.Namespace) -> int:
    from nas.runs.run import Run
    from nas.workers.launcher import check_limits, launch
    from nas.workers.resume import check_device_same

    check_limits(args)
    found = Run.open(args.run, args.storage)
    check_device_same(found, args)
    return launch(found, args)


def status(args: argparse.Namespace) -> int:
    from nas.report.documents import status_document
    from nas.runs.run import Run

    found = status_document(Run.open(args.run, args.storage))
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"{found['run']}: {found['state']}, {found['elapsed_s'] / 60:.1f} minutes")
    for outcome, count in found["trials"].items():
        print(f"  {outcome.replace('_', ' '):<14}{count:>6}")
    for reason, count in found["failures"].items():
        print(f"    {count} x {reason}")
    if found["missing"]:
        print(f"  damaged: {found['missing']}")
    return 0


def limits_of(args: argparse.Namespace) -> Limits:
    """What the words ask of a network besides the budget.

    Raises:
        UsageError: a limit is no number above 0.
    """
    import math

    from nas.errors import UsageError
    from nas.report.recommendation import Limits

    values = [getattr(args, option.replace("-", "_")) for option in LIMITS]
    for option, value in zip(LIMITS, values, strict=True):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"--{option} {value:g}: expected a number above 0")
    return Limits(*values)


def check_against(name: str) -> None:
    from fastvit.presets import PRESETS
    from nas.errors import UsageError
    from nas.report.recommendation import LARGEST, NEAREST

    if name not in (LARGEST, NEAREST, *PRESETS):
        raise UsageError(f"--against {name}: expected {LARGEST}, {NEAREST} or a preset ({', '.join(PRESETS)})")


def front(args: argparse.Namespace) -> int:
    from nas.report.decision import decided_front
    from nas.report.printed import front_csv, front_table
    from nas.runs.run import Run
    from nas.workers.launcher import check_budget

    if args.budget_ms is not None:
        check_budget(args.budget_ms)
    check_against(args.against)
    found = decided_front(Run.open(args.run, args.storage), args.budget_ms, limits_of(args), args.against)
    if args.json:
        print(json.dumps(found))
    elif args.csv:
        sys.stdout.write(front_csv(found))
    else:
        print(front_table(found, estimate=args.estimate))
    return 0 if found["points"] else 3


def worker(args: argparse.Namespace) -> int:
    import os

    # Before torch reads it; the launcher of several workers sets what each of them gets.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from nas.runs.run import Run
    from nas.workers.evaluator import RunEvaluator
    from nas.workers.resume import check_device_same
    from nas.workers.worker import work

    run = Run.open(args.run, args.storage)
    check_device_same(run, args)
    return work(run, args.id, RunEvaluator(run, data=args.data) if args.data else None)


if __name__ == "__main__":
    # The launcher starts its workers here: `python -m nas.commands.run RUN NAME`.
    from nas.commands.call import call

    sys.exit(call("nas.commands.run:worker",
                  argparse.Namespace(run=sys.argv[1], id=sys.argv[2], storage=None, data=None, device=None)))
