"""Do milliseconds hold? Absolutely, against a plain warm loop on the idle machine, and in the main job itself.

    python benchmarks/latency_truth.py fresh  [--to DIR] [--resolution 64] [--device onnxruntime] [--busy 0]
    python benchmarks/latency_truth.py job    [--to DIR] [--busy 0] [--minutes 8] [--budget-ms 2]
    python benchmarks/latency_truth.py after  [--to DIR]
    python benchmarks/latency_truth.py report [--to DIR]

`fresh`: the presets from five empty caches, and by a plain loop (the median of two seconds of processor time in a
process of its own, with no word to the scheduler). `job`: a main job with an empty cache, beside so many busy
processes. `after`: everything that those jobs measured more than once or put on a front, by `measure --fresh` and by
the plain loop, on what should then be an idle machine. `report` prints the tables. Everything is appended to
DIR/figures.jsonl, and every piece ends after --limit-s seconds and goes on where it was left when it is called again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SESSIONS, LOOP_S = 5, 2.0
PRESETS = ("t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36")


@contextlib.contextmanager
def beside(busy: int) -> Iterator[None]:
    """So many foreign processes, each in a session of its own, that do nothing but keep a core busy."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(busy)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def plain_loop(device: str, resolution: int, configs: dict[str, Any]) -> dict[str, float]:
    """ms of each: what anybody would write first."""
    from fastvit.config import FastViTConfig
    from nas.latency.devices import runtime
    from nas.latency.network import Network
    from nas.latency.runtime import Setting

    found = {}
    for name, config in configs.items():
        session: Any = runtime(device).prepare(Network(config=FastViTConfig.from_dict(config)), Setting(resolution))
        times: list[float] = []
        begun = time.perf_counter()
        while time.perf_counter() - begun < LOOP_S or len(times) < 5:
            started = time.process_time()
            session.run()
            times.append(1e3 * (time.process_time() - started))
        found[name] = float(np.median(times))
    return found


def in_a_process(words: list[str], cache: Path | None = None, text: str | None = None) -> Any:
    environment = os.environ | ({} if cache is None else {"FASTVIT_EXPLORER_CACHE": str(cache)})
    found = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, input=text,
                           stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


class Figures:
    def __init__(self, to: Path, limit_s: float) -> None:
        self.path, self.end = to / "figures.jsonl", time.monotonic() + limit_s
        to.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = ([json.loads(line) for line in self.path.read_text().splitlines()]
                                           if self.path.exists() else [])

    def have(self, **key: Any) -> list[dict[str, Any]]:
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]

    def add(self, **row: Any) -> None:
        row |= {"load": os.getloadavg()[0], "at": time.strftime("%H:%M:%S")}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row)[:200], file=sys.stderr, flush=True)

    @property
    def late(self) -> bool:
        return time.monotonic() > self.end


def measured(figures: Figures, args: argparse.Namespace, configs: dict[str, Any], resolution: int, cache: str,
             busy: int) -> None:
    """Each of `configs` from a cache of that name and by a plain loop, once."""
    for key, config in configs.items():
        (args.to / f"{key}.json").write_text(json.dumps(config))
    where = {"device": args.device, "resolution": resolution, "busy": busy, "session": cache}
    if configs and not figures.late and not figures.have(what="fresh", **where):
        rows = in_a_process(["search.py", "measure", *(str(args.to / f"{key}.json") for key in configs), "--device",
                             args.device, "--resolution", str(resolution), "--fresh", "--json"],
                            args.to / "caches" / f"{args.device}-{resolution}-{busy}-{cache}".replace(":", "-"))
        for row in rows:
            figures.add(what="fresh", **where, key=row["name"], ms=row["latency_ms"], low=row["ci_low_ms"],
                        high=row["ci_high_ms"], seconds=row["seconds"], others=row["others"], flags=row["flags"])
    if configs and not figures.late and not figures.have(what="loop", **where):
        found = in_a_process([__file__, "loop", "--device", args.device, "--resolution", str(resolution)],
                             text=json.dumps(configs))
        for key, ms in found.items():
            figures.add(what="loop", **where, key=key, ms=ms)


def fresh(figures: Figures, args: argparse.Namespace) -> None:
    from fastvit.presets import PRESETS as presets

    with beside(args.busy):
        for session in range(SESSIONS):
            measured(figures, args, {name: presets[name].to_dict() for name in args.presets.split(",")},
                     args.resolution, str(session), args.busy)


def job(figures: Figures, args: argparse.Namespace) -> None:
    run = args.to / f"run-{args.busy}-{len(figures.have(what='job'))}"
    with beside(args.busy):
        ended = subprocess.run([sys.executable, "search.py", "--budget-ms", str(args.budget_ms), "--minutes",
                                str(args.minutes), "--run", run], cwd=ROOT, check=False, stdout=subprocess.DEVNULL,
                               env=os.environ | {"FASTVIT_EXPLORER_CACHE": str(run) + "-cache"})
    figures.add(what="job", run=str(run), busy=args.busy, minutes=args.minutes, code=ended.returncode)


def measured_by(run: Path) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """A run's front, every session of every network that was measured more than once or is on the front (by
    configuration key), and those networks' configurations."""
    from nas.latency.pool import distinct
    from nas.runs.measurement import Measurement
    from nas.runs.run import Run
    from nas.search.confirmation import LATENCY_ATTR

    opened = Run.open(run)
    front = in_a_process(["search.py", "front", str(run), "--json"])
    points = [*front["points"], *(point for point in front["anchors"] if point["config"])]
    configs = {point["config_key"]: point["config"] for point in points}
    sessions: dict[str, list[Any]] = {}
    for record in opened.trials():
        if record.config_key in configs and record.latency is not None:
            sessions.setdefault(record.config_key, []).append(record.latency)
    for key, more in opened.attrs().get(LATENCY_ATTR, {}).items():
        sessions.setdefault(key, []).extend(Measurement.from_dict(one) for one in more)
    return front["points"], {key: [one.to_dict() for one in distinct(found)] for key, found in sessions.items()
                             if key in configs}, configs


def after(figures: Figures, args: argparse.Namespace) -> None:
    for row in figures.have(what="job"):
        _, _, configs = measured_by(Path(row["run"]))
        resolution = json.loads((Path(row["run"]) / "run.json").read_text())["resolution"]
        for session in range(2):
            measured(figures, args, configs, resolution, f"after-{Path(row['run']).name}-{session}", 0)


def report(figures: Figures) -> None:
    print("1. presets from five empty caches and by a plain loop: ms, largest spread, and off the loop's median, %")
    kinds = sorted({(row["device"], row["resolution"], row["busy"]) for row in figures.rows
                    if row.get("key") in PRESETS})
    for device, resolution, busy in kinds:
        for name in PRESETS:
            where = {"device": device, "resolution": resolution, "busy": busy, "key": name}
            ours = np.array([row["ms"] for row in figures.have(what="fresh", **where)])
            loops = np.array([row["ms"] for row in figures.have(what="loop", **where)])
            alone = np.array([row["ms"] for row in figures.have(what="loop", **where | {"busy": 0})])
            if len(ours) and len(alone):
                print(f"  {device} {resolution} px, {busy} busy  {name:<5}{np.median(ours):>9.3f} ms  ours: spread "
                      f"{_spread(ours):>5.1f}, off {100 * np.abs(ours / np.median(alone) - 1).max():>5.1f}   loop: "
                      f"{np.median(loops) if len(loops) else np.nan:>9.3f} ms, spread {_spread(loops):>5.1f}")
    print("2. fronts of main jobs against afterwards: |printed - measured| in %, mean and largest")
    inside: dict[str, list[bool]] = {}
    for row in figures.have(what="job"):
        points, sessions, _ = measured_by(Path(row["run"]))
        for what in ("fresh", "loop"):
            errors: list[float] = [100 * (point["latency_ms"] / later - 1) for point in points
                      if (later := _later(figures, what, point["config_key"])) is not None]
            if errors:
                print(f"  {row['run']}, {row['busy']} busy, {row['minutes']:g} min, against {what}: "
                      f"{np.mean(np.abs(errors)):.1f}, {np.abs(errors).max():.1f} (mean signed {np.mean(errors):+.1f}; "
                      f"{len(errors)} points)")
        for key, found in sessions.items():
            idle = _later(figures, "loop", key)
            for number, one in enumerate(found if idle else []):
                inside.setdefault(f"session {number + 1}, {row['busy']} busy", []).append(
                    one["ci_low_ms"] <= idle <= one["ci_high_ms"])
        for point in points:
            if (idle := _later(figures, "loop", point["config_key"])) is not None:
                inside.setdefault(f"printed, {row['busy']} busy", []).append(
                    point["ci_low_ms"] <= idle <= point["ci_high_ms"])
    for row in figures.have(what="fresh"):
        loops = [one["ms"] for one in figures.have(what="loop", device=row["device"], resolution=row["resolution"],
                                                   key=row["key"], busy=0)]
        if loops:
            inside.setdefault(f"a fresh cache, {row['busy']} busy", []).append(
                row["low"] <= np.median(loops) <= row["high"])
    print("3. how many 95 % intervals hold the idle plain loop's value")
    for name, held in sorted(inside.items()):
        print(f"  {name:<28}{sum(held):>4} of {len(held):<4}{100 * np.mean(held):>5.0f} %")
    every = [one for held in inside.values() for one in held]
    if every:
        print(f"  {'all':<28}{sum(every):>4} of {len(every):<4}{100 * np.mean(every):>5.0f} %")
    print("4. cost")
    for row in figures.have(what="job"):
        _cost(Path(row["run"]), row["busy"])


def _cost(path: Path, busy: int) -> None:
    from nas.runs.run import Run

    records = Run.open(path).trials()
    seconds = [r.cost_s["latency"] for r in records if r.cost_s.get("latency") and r.origin == "measured"]
    paused = sum(r.cost_s.get("paused", 0.0) for r in records)
    trained = sum(r.cost_s.get("proxy", 0.0) for r in records)
    if seconds and trained:
        print(f"  {path}, {busy} busy: a measurement takes {np.median(seconds):.1f} s in the median (with waiting for "
              f"the device), {len(seconds)} of them; trainers paused {100 * paused / (paused + trained):.1f} % of "
              f"{trained + paused:.0f} s")


def _later(figures: Figures, what: str, key: str) -> float | None:
    found = [row["ms"] for row in figures.have(what=what, key=key, busy=0)]
    return float(np.median(found)) if found else None


def _spread(values: np.ndarray) -> float:
    return float(100 * (values.max() / values.min() - 1)) if len(values) else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fresh", "job", "after", "report", "loop"))
    parser.add_argument("--to", type=Path, default=Path("runs/latency_truth"))
    parser.add_argument("--device", default="onnxruntime")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--presets", default="t8,s12,sa12,ma36")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--budget-ms", type=float, default=2)
    parser.add_argument("--limit-s", type=float, default=220)
    args = parser.parse_args()
    args.to = args.to.resolve()
    if args.what == "loop":
        print(json.dumps(plain_loop(args.device, args.resolution, json.load(sys.stdin))))
        return
    figures = Figures(args.to, args.limit_s)
    if args.what == "report":
        report(figures)
    else:
        {"fresh": fresh, "job": job, "after": after}[args.what](figures, args)


if __name__ == "__main__":
    main()
