"""Hours and kills, on a small scale: what grows with the trials of a run, and what is lost under kills.

    python benchmarks/soak.py day [--trials 2000] [--seconds 180]       one worker, nothing measured or trained
    python benchmarks/soak.py kills [--trials 300] [--workers 8] [--seconds 180]
    python benchmarks/soak.py device [--clients 80] [--seconds 60]

Trials are simulated (tests/nas/stand_in.py): asking, recording, dying and resuming are what they are in a search.
`day` prints memory and the journal's size for each hundred trials and how long proposals take there. `kills` ends a
random worker every two seconds and counts what was lost or done twice. `device` lets clients ask a serve-device whose
measurements take 20 ms, and prints answers, errors and memory.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nas.runs.run import Run  # noqa: E402
from nas.search.confirmed import search_trials  # noqa: E402
from tests.nas.stand_in import StandIn  # noqa: E402
from tests.nas.workers.test_kill import begin, launch, workers_of  # noqa: E402


def memory_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


def day(trials: int, seconds: float) -> None:
    from nas.workers.worker import Worker

    with tempfile.TemporaryDirectory() as folder:
        run = begin(Path(folder) / "run", 0, "--sampler", "surrogate")
        run.update(trial_limit=trials)
        worker = Worker(run, "one", StandIn(run, measure_s=0, rung_s=0))
        begun, spent = time.monotonic(), []
        print(f"{'trials':>7}{'memory MB':>11}{'journal MB':>12}{'files':>7}{'ms a trial':>12}{'proposing ms':>14}")
        for number in range(1, trials + 1):
            since = time.perf_counter()
            found = search_trials(run)
            worker.predictor.update(found)
            trial = worker.chooser.next(found)
            proposed = time.perf_counter() - since
            worker.run_trial(trial)
            spent.append((time.perf_counter() - since, proposed))
            if number % 100 == 0:
                whole, part = 1e3 * np.median(np.array(spent[-100:]), 0)
                print(f"{number:>7}{memory_mb():>11.0f}{run.journal.stat().st_size / 2**20:>12.2f}"
                      f"{len(list(run.path.rglob('*'))):>7}{whole:>12.0f}{part:>14.0f}", flush=True)
            if time.monotonic() - begun > seconds:
                print(f"ended after {number} trials by the time limit")
                break


def kills(trials: int, workers: int, seconds: float) -> None:
    rng, killed = random.Random(0), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        begin(path, trials)
        process = launch(path, trials, workers)
        watched, begun, next_kill = psutil.Process(process.pid), time.monotonic(), 2.0
        most = 0.0
        while process.poll() is None:
            elapsed = time.monotonic() - begun
            with_memory = watched.memory_info().rss / 2**20 if watched.is_running() else 0.0
            most = max(most, with_memory)
            if elapsed > next_kill and elapsed < seconds and (alive := workers_of(path)):
                rng.choice(alive).kill()
                killed, next_kill = killed + 1, elapsed + 2
            if elapsed > seconds:
                process.terminate()
                break
            time.sleep(0.2)
        process.wait()
        records = search_trials(Run.open(path))
        done = Counter(tuple(json.loads(line)[:3]) for line in (path / "ledger").read_text().splitlines())
        ended = Counter(r.outcome.value for r in records if not r.retried)
        print(f"{time.monotonic() - begun:.0f} s, {killed} workers killed, launcher at most {most:.0f} MB, "
              f"trials {dict(ended)}, rungs trained twice: {sum(times > 1 for times in done.values())}, "
              f"reasons {Counter(r.reason for r in records if r.outcome == 'failed' and not r.retried)}, "
              f"files in workers/: {len(list((path / 'workers').iterdir()))}")


def device(clients: int, seconds: float) -> None:
    import httpx

    from fastvit import PRESETS
    from nas.latency import device_server, http_server
    from nas.runs.measurement import Measurement, Origin

    def measured(targets: list[Any], name: str, **how: Any) -> list[Measurement]:
        time.sleep(0.02)
        return [Measurement("", "0" * 16, name, Origin.MEASURED, 32, 1.0, 0.9, 1.1) for _ in targets]

    device_server.measure_many = measured
    served = http_server.server(device_server.create_app("onnxruntime"), log_level="error")
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    threading.Thread(target=served.run, kwargs={"sockets": [listening]}, daemon=True).start()
    while not served.started:
        time.sleep(0.05)
    count: Counter[str] = Counter()
    target = PRESETS["t8"].to_dict()
    until = time.monotonic() + seconds

    def ask(number: int) -> None:
        asked = 0
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.monotonic() < until:
                asked += 1
                key = f"{number:016x}{asked:016x}"
                try:
                    found = client.post("/jobs", json={"id": key, "targets": [target], "resolution": 64})
                    count[f"POST {found.status_code}"] += 1
                    if found.status_code == 503:
                        time.sleep(0.5)
                        continue
                    while client.get(f"/jobs/{key}", params={"wait_s": 15}).json()["state"] != "done":
                        pass
                    count["measured"] += 1
                except httpx.TransportError as error:
                    count[type(error).__name__] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    begun = memory_mb()
    while any(thread.is_alive() for thread in threads):
        time.sleep(15)
        elapsed = seconds - (until - time.monotonic())
        print(f"{elapsed:.0f} s: {dict(count)}, {memory_mb():.0f} MB ({begun:.0f} at first)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("day", "kills", "device"))
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=180.0)
    args = parser.parse_args()
    if args.part == "day":
        day(args.trials or 2000, args.seconds)
    elif args.part == "kills":
        kills(args.trials or 300, args.workers, args.seconds)
    else:
        device(args.clients, args.seconds)


if __name__ == "__main__":
    main()
