"""What the storage costs a trial, for 1, 8, 100 and 1,000 workers, and what breaks first.

    python benchmarks/scale.py [--storage journal|postgres|grpc] [--workers 1,8,100,1000] [--seconds 20]
    python benchmarks/scale.py --overhead [--trials 150]

Simulated workers ask the storage for what a trial asks for (begin, four records, a constraint, the end; the records
of all others twice), with nothing measured or trained in between, as fast as they can. Each has a storage object and
a connection of its own; threads of up to eight processes share this machine's cores with the database. So trials/s
is the most that one machine's storage takes, and a worker whose trials last t seconds needs 1 / t of it.
PostgreSQL is Debian's, fresh, with its default limit of 100 connections, on loopback; the gRPC proxy is
`search.py serve-storage` in front of it.

--overhead prints a trial's time outside training and measuring in a real worker with a stand-in evaluation, medians
and means; where other jobs share the cores, the CPU column says more: it holds all of a trial, the stand-in and the
decisions at rungs included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from optuna.trial import TrialState, create_trial  # noqa: E402

from nas.runs.measurement import Measurement, Origin  # noqa: E402
from nas.runs.meta import RunMeta, SpaceSource  # noqa: E402
from nas.runs.run import Run  # noqa: E402
from nas.runs.studies import begin  # noqa: E402
from nas.runs.trial import Outcome, Rung, Trial, with_rung  # noqa: E402
from nas.search.confirmed import search_trials  # noqa: E402
from space import SearchSpace  # noqa: E402
from tests.nas import services  # noqa: E402

SPACE = SearchSpace.load("default")
PROCESSES = 8
CONNECT_S = 90.0
LAST_TRIAL_S = 30.0  # a trial that began in time may end so much later
LATENCY = Measurement("", "", "a device", Origin.MEASURED, 64, 1.0, 0.9, 1.1,
                      samples={"trial_ms": [1.01] * 60, "reference_ms": [1.02] * 60})


def one_trial(run: Run, rng: np.random.Generator, name: str) -> None:
    """Everything that nas/workers/worker.py asks of the storage for one trial."""
    config = SPACE.sample(rng)
    run.told_to_stop()
    search_trials(run)
    found = Trial(0, worker=name, config=config, params_m=3.2, gmacs=0.05, seed=0, latency=LATENCY)
    attrs = {"record": found.to_record()}
    trial = begin(run.study, create_trial(state=TrialState.RUNNING, user_attrs=attrs) if run.meta.shared
                  else SPACE.trial(config, TrialState.RUNNING, attrs))
    search_trials(run)
    for step in (30, 60, 120):
        found = with_rung(found, Rung(step, 0.5, 0.01, 3.0))
        trial.set_user_attr("record", found.to_record())
    ended = replace(found, outcome=Outcome.COMPLETE, score=0.5, curve=((1, 0.5),) * 240)
    trial.set_user_attr("record", ended.to_record())
    trial.set_constraint("latency_ms", -1.0)
    run.study.tell(trial, [1.0, 0.5])


def child(path: str, threads: int, seconds: float, number: int) -> None:
    """Simulated workers in this process: connect, say so, wait for a line, work, say what was done."""
    errors: Counter[str] = Counter()
    runs: list[Run] = []
    lock = threading.Lock()

    def connect(_: int) -> None:
        try:
            run = Run.open(path)
            run.study.get_trials(deepcopy=False)
        except Exception as error:
            with lock:
                errors[said(error)] += 1
        else:
            with lock:
                runs.append(run)

    with ThreadPoolExecutor(min(threads, 4)) as pool:
        list(pool.map(connect, range(threads)))
    print(json.dumps({"connected": len(runs)}), flush=True)
    sys.stdin.readline()
    until, spent = time.monotonic() + seconds, []

    def work(index: int) -> None:
        rng = np.random.default_rng([number, index])
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                one_trial(runs[index], rng, f"{number}-{index}")
            except Exception as error:
                with lock:
                    errors[said(error)] += 1
                return
            with lock:
                spent.append(time.monotonic() - begun)

    workers = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(runs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(0.0, until + LAST_TRIAL_S - time.monotonic()))
    times = os.times()
    if still := sum(worker.is_alive() for worker in workers):
        errors["still in a trial at the end"] = still
    with lock:
        print(json.dumps({"spent": spent, "errors": errors, "cpu": times.user + times.system}), flush=True)
    os._exit(0)


def said(error: BaseException) -> str:
    from nas.runs.storage import public_line

    return f"{type(error).__name__}: {public_line(error)}"[:160]


def cell(path: Path, url: str | None, workers: int, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    processes = min(PROCESSES, workers)
    shares = [workers // processes + (index < workers % processes) for index in range(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FASTVIT_EXPLORER_PATIENCE_S": "5"}
    if url:
        environment["FASTVIT_EXPLORER_STORAGE"] = url
    begun = time.monotonic()
    children = [subprocess.Popen([sys.executable, __file__, "--child", str(path), str(share), str(seconds), str(index)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                 env=environment) for index, share in enumerate(shares)]
    try:
        connected = sum(json.loads(line)["connected"] for line in _lines(children, CONNECT_S))
        connecting = time.monotonic() - begun
        begun = time.monotonic()
        for process in children:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(line) for line in _lines(children, seconds + 60)]
        lasted = time.monotonic() - begun
    finally:
        for process in children:
            process.kill()
            process.wait()
    spent = np.array([value for answer in answers for value in answer["spent"]])
    errors: Counter[str] = Counter()
    for answer in answers:
        errors.update(answer["errors"])
    return {"workers": workers, "connected": connected, "connect_s": connecting, "trials": len(spent),
            "per_s": len(spent) / lasted, "cpu_ms": 1e3 * sum(a["cpu"] for a in answers) / max(1, len(spent)),
            "p50_ms": 1e3 * float(np.median(spent)) if len(spent) else float("nan"),
            "p95_ms": 1e3 * float(np.quantile(spent, 0.95)) if len(spent) else float("nan"),
            "errors": errors.most_common(2)}


def _lines(children: list[subprocess.Popen[str]], limit_s: float) -> list[str]:
    """Each child's next line; a child that has none in time is ended."""
    timers = [threading.Timer(limit_s, process.kill) for process in children]
    for timer in timers:
        timer.start()
    lines = [process.stdout.readline() for process in children if process.stdout is not None]
    for timer in timers:
        timer.cancel()
    return [line or '{"connected": 0, "spent": [], "errors": {"no answer in time": 1}, "cpu": 0}' for line in lines]


def new_run(folder: Path, name: str, url: str | None) -> Run:
    run = Run.create(folder / name, RunMeta(
        id=name, budget_ms=2.0, device="onnxruntime", resolution=64, task="digits", num_classes=10, steps=240,
        sampler="random", space=SpaceSource(SPACE.name, SPACE.source)), url)
    run.create_study()
    return run


def scaling(kind: str, workers: list[int], seconds: float) -> None:
    print(f"{'storage':<9}{'workers':>8}{'connected':>10}{'in s':>6}{'trials/s':>10}{'p50 ms':>9}{'p95 ms':>9}"
          f"{'client CPU ms':>14}  errors")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = None
        if kind != "journal":
            server = stack.enter_context(services.postgres())
            if server is None:
                sys.exit("PostgreSQL is not installed: apt-get install postgresql")
            url = server.url
        if kind == "grpc":
            url = stack.enter_context(services.proxy(url or ""))
        for count in workers:
            name = f"scale-{kind}-{count}"
            new_run(folder, name, url)
            row = cell(folder / name, url, count, seconds)
            print(f"{kind:<9}{count:>8}{row['connected']:>10}{row['connect_s']:>6.0f}{row['per_s']:>10.1f}"
                  f"{row['p50_ms']:>9.0f}{row['p95_ms']:>9.0f}{row['cpu_ms']:>14.0f}  "
                  + "; ".join(f"{times} x {text}" for text, times in row["errors"]), flush=True)


def overhead(trials: int) -> None:
    from nas.workers.worker import Worker
    from tests.nas.stand_in import StandIn
    from tests.nas.workers.test_kill import begin

    class Clocked(StandIn):
        """Notes the process's CPU seconds at each measurement: between two of them lies one whole trial."""

        def measure(self, config: Any) -> Any:
            marks.append(time.process_time())
            return super().measure(config)

    for sampler in ("surrogate", "tpe", "random"):
        marks: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            run = begin(Path(folder) / "run", 0)
            run.meta = replace(run.meta, sampler=sampler)
            run.update(trial_limit=trials)
            worker = Worker(run, "one", Clocked(run, measure_s=0, rung_s=0))
            worker.loop()
            records = [r for r in search_trials(run) if not r.preset]
            cpu_ms = 1e3 * np.diff([*marks, time.process_time()])[-len(records):]
            for low in range(0, trials, 50):
                part = slice(low, low + 50)
                own = np.array([1e3 * r.cost_s["overhead"] for r in records[part]])
                proposing = np.array([1e3 * r.cost_s.get("propose", 0.0) for r in records[part]])
                print(f"{sampler:<10} trials {low:>4} to {low + len(own) - 1:>4}: proposing {_both(proposing)}, "
                      f"all else {_both(own)}; CPU of the whole trial {_both(cpu_ms[part])}", flush=True)


def _both(ms: np.ndarray) -> str:
    return f"{np.median(ms):.0f} ms (mean {np.mean(ms):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=("journal", "postgres", "grpc"), default="journal")
    parser.add_argument("--workers", default="1,8,100,1000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]), float(args.child[2]), int(args.child[3]))
    elif args.overhead:
        overhead(args.trials)
    else:
        scaling(args.storage, [int(word) for word in args.workers.split(",")], args.seconds)


if __name__ == "__main__":
    main()
