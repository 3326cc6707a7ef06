"""Given networks trained for a short while at full width within a time, so that their scores rest on the user's images:
one process a core, without a run's folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from fastvit.config import FastViTConfig
from fastvit.cost import cost
from fastvit.presets import PRESETS
from nas.errors import Failure
from nas.proxy.full_recipe import BATCH
from nas.proxy.train import ProxyResult
from nas.search.plan import BASE_PIXELS, BUSY, MOST, MOST_EPOCHS
from nas.workers.planning import t8_image_s
from nas.workers.resources import default_workers, share, this_machine

LEAST = 100  # steps: with fewer a whole network says nothing


@dataclass(frozen=True)
class ShortRuns:
    """What is trained: the configurations at `chosen`, `steps` of BATCH images at `pixels` each."""

    chosen: tuple[int, ...]
    steps: int
    pixels: int


def plan_short_runs(gmacs: Sequence[float], seconds: float, *, workers: int, resolution: int, images: int,
                    t8_image_s: float) -> ShortRuns:
    """All of them as deep as the time allows; where that is less than LEAST steps each, those with few, median and
    many GMACs first, as many as can be trained that long.

    Args:
        gmacs: of the configurations, at BASE_PIXELS.
        seconds: of time.
        t8_image_s: seconds that T8's training takes for an image of BASE_PIXELS.
    """
    pixels = min(resolution, BASE_PIXELS)
    t8 = cost(PRESETS["t8"], BASE_PIXELS).gmacs
    step_s = [BATCH * t8_image_s * one / t8 * (pixels / BASE_PIXELS) ** 2 for one in gmacs]
    spent = BUSY * seconds * min(workers, len(gmacs))
    most = max(LEAST, min(MOST, MOST_EPOCHS * images // BATCH))
    steps = int(min(most, spent / sum(step_s)))
    if steps >= LEAST:
        return ShortRuns(tuple(range(len(gmacs))), steps, pixels)
    chosen: list[int] = []
    for index in spread_out(gmacs):
        if (sum(step_s[i] for i in chosen) + step_s[index]) * LEAST <= spent:
            chosen.append(index)
    return ShortRuns(tuple(sorted(chosen)), LEAST, pixels)


def spread_out(values: Sequence[float]) -> list[int]:
    """Indices of all values in an order whose beginnings cover their range: the median, the ends, then the middles
    of what lies between."""
    ranked = sorted(range(len(values)), key=lambda index: values[index])
    found: list[int] = []
    parts = [(0, len(ranked))]
    while parts:
        low, high = parts.pop(0)
        if low < high:
            middle = (low + high) // 2
            found.append(ranked[middle])
            parts += [(low, middle), (middle + 1, high)]
    return found


def train_short_runs(configs: Sequence[FastViTConfig], data: str, *, resolution: int, seed: int, minutes: float,
                     say: Callable[[str], None]) -> tuple[ShortRuns, dict[int, ProxyResult]]:
    """The plan, and what each that ended in time reached, by its index in `configs`."""
    from nas.data.folder import whole_task

    until = time.monotonic() + 60 * minutes
    task = whole_task(data, resolution, seed)
    machine = this_machine()
    workers = min(default_workers(machine), len(configs))
    found: dict[int, ProxyResult] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin,
                             initargs=(share(machine, workers)[0].threads,)) as pool:
        spent, got = pool.submit(t8_image_s, task.num_classes).result()
        plan = plan_short_runs([cost(config, BASE_PIXELS).gmacs for config in configs],
                               (until - time.monotonic()) * got, workers=workers, resolution=resolution,
                               images=len(task.train), t8_image_s=spent)
        if not plan.chosen:
            say(f"{minutes:g} minutes are too few to train any of them for {LEAST} steps")
            return plan, {}
        say(f"plan: {len(plan.chosen)} of {len(configs)} networks at full width, {plan.pixels} px, {plan.steps} steps "
            f"of {BATCH}, {workers} at once")
        longest = sorted(plan.chosen, key=lambda index: -cost(configs[index], BASE_PIXELS).gmacs)
        jobs = {pool.submit(_trained, configs[index].to_json(), data, resolution, seed, plan, until): index
                for index in longest}
        for job in as_completed(jobs):
            try:
                result = job.result()
            except Failure as error:
                print(f"{configs[jobs[job]].describe()}: {error}", file=sys.stderr)
                continue
            if result is not None:
                found[jobs[job]] = result
                say(f"{len(found)} of {len(plan.chosen)}: top-1 {100 * result.score:.1f} %")
    if len(found) < len(plan.chosen):
        say(f"the time is over: {len(plan.chosen) - len(found)} trainings were not finished")
    return plan, found


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _trained(config: str, data: str, resolution: int, seed: int, plan: ShortRuns, until: float) -> ProxyResult | None:
    from nas.data.folder import whole_task
    from nas.proxy.short_whole import short_recipe, short_whole

    task = whole_task(data, resolution, seed)
    return short_whole(FastViTConfig.from_json(config), task, short_recipe(plan.steps, plan.pixels, seed), until=until)
