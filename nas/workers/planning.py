"""What a machine can do in a time, measured before a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastvit.presets import PRESETS
from nas.errors import Failure
from nas.search.plan import BASE_PIXELS, Load, SearchPlan, make_plan

if TYPE_CHECKING:
    from nas.data import Task


def t8_image_s(num_classes: int) -> tuple[float, float]:
    """Seconds that T8's training takes here for an image of BASE_PIXELS, on one thread as workers train, and the share
    of a core that this process got meanwhile."""
    import torch

    from nas.proxy.full import seconds_per_image

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return seconds_per_image(PRESETS["t8"], num_classes, BASE_PIXELS, images=64)
    finally:
        torch.set_num_threads(before)


def plan_search(task: Task, minutes: float | None, *, device: str, budget_ms: float, workers: int
                ) -> SearchPlan | None:
    """The plan of a search on photographs for so many minutes; None where they only do for proxies, and where a number
    of trials limits it."""
    if minutes is None:
        return None
    from nas.latency import measure

    try:
        load = Load.under(budget_ms, measure(PRESETS["t8"], device, resolution=task.resolution).latency_ms)
    except Failure:  # the run itself will say what is wrong with the device
        load = None
    spent, got = t8_image_s(task.num_classes)
    return make_plan(60 * minutes * got, workers=workers, resolution=task.resolution, images=len(task.train),
                     t8_image_s=spent, load=load)
