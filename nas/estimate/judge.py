"""What is said of configurations on one task: the one door to every estimate that search, reports, pages and
`search.py score` go through.

On photographs that is top-1 of the whole network (nas/estimate/accuracy.py). On the drawn tasks, whose short runs rank
long ones and ship, it is the posterior of the short runs, and without any, the law of long runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.data import DRAWN
from nas.estimate.accuracy import AGREEMENT, IMAGENET, UNIT, AccuracyModel, Estimates, Whole, gain
from nas.estimate.surrogate import Evidence, Surrogate, evidence, shipped_evidence
from nas.runs.meta import RunMeta
from nas.runs.trial import Trial

REFERENCE = ("t8", "t12", "s12", "sa12")  # the level is that of these
REFIT_AT = 1.25  # times as many rows
BATCH = 64  # images of a step
ENOUGH = 60_000  # images that the networks of a run see in training, before the run has decided on it
STANDARD, MOST_EPOCHS = 100_000, 30  # images that a network sees whose estimate no run stands behind
SKILL = "skill, share of the targets' variance"


@dataclass(frozen=True)
class Estimate:
    """A score with its standard deviation and central intervals, in `unit`; `origin` says what it rests on.

    `apart_sd` is the standard deviation of the score's distance from the presets': what is left of the doubt when the
    level that all configurations share on these images is taken out.
    """

    score: float
    sd: float
    interval_50: tuple[float, float]
    interval_90: tuple[float, float]
    apart_sd: float
    unit: str
    origin: str


class Judge(Protocol):
    """Estimates configurations on one task."""

    def estimate(self, configs: Sequence[FastViTConfig]) -> list[Estimate]: ...

    def rises(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        """Probability that each configuration reaches more than the one before it: (N - 1,)."""
        ...


class PhotographJudge:
    """Top-1 after the training that `model` stands for."""

    def __init__(self, model: AccuracyModel) -> None:
        self.model = model

    def estimate(self, configs: Sequence[FastViTConfig]) -> list[Estimate]:
        found = self.model.predict(configs)
        half, most = found.interval(0.5), found.interval(0.9)
        apart = self._apart(configs, found)
        return [Estimate(float(found.top1[i]), float(found.sd[i]), (float(half[0][i]), float(half[1][i])),
                         (float(most[0][i]), float(most[1][i])), float(apart[i]), UNIT, self.origin)
                for i in range(len(configs))]

    def _apart(self, configs: Sequence[FastViTConfig], found: Estimates) -> np.ndarray:
        """Standard deviations of the distances from the mean logit of REFERENCE, as shares: (N,)."""
        beside = self.model.predict([*configs, *(PRESETS[name] for name in REFERENCE)]).covariance
        count = len(configs)
        mean = beside[:, count:].mean(1)
        spread = np.diagonal(beside)[:count] - 2 * mean[:count] + mean[count:].mean()
        return np.asarray(np.sqrt(np.maximum(spread, 0)) * found.top1 * (1 - found.top1))

    def rises(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        found = self.model.predict(configs)
        return np.array([found.beats(i, i - 1) for i in range(1, len(configs))])

    @property
    def origin(self) -> str:
        """What the estimates rest on, in words."""
        own = self.model.own
        others = [row for row in self.model.rows if row.task != IMAGENET and row not in own]
        said = (f"prior from size and shape: a law fitted to {len(others)} whole networks on other real images and the "
                "published FastViTs")
        if self.model.proxies_believed:
            said += f"; proxies of this run (believed at {self.model.proxies_believed:.2f})"
        if own:
            return said + f"; {len(own)} whole network{'s' * (len(own) > 1)} trained on these images"
        return said + "; no whole network was trained on these images, so the level common to all is a guess"


class DrawnJudge:
    """The score of a proxy, from what ships and what a run scored on exactly these images."""

    def __init__(self, steps: int, rows: Sequence[Evidence], *, shipped: int) -> None:
        self.surrogate, self.rows, self.shipped = Surrogate(steps).fit(rows), rows, shipped

    def estimate(self, configs: Sequence[FastViTConfig]) -> list[Estimate]:
        from nas.estimate.long_run import estimated_long_run

        if self.surrogate.ready:
            mean, sd = self.surrogate.predict(configs)
            said = f"posterior of {len({row.config for row in self.rows})} configurations' short runs on these images"
            said += f", of which {self.shipped} ship" if self.shipped else ""
        else:
            law = np.array(estimated_long_run(configs))
            mean, sd = law[:, 0], (law[:, 2] - law[:, 1]) / (2 * 1.96)
            said = "prior from size: a law fitted to long runs on other drawn tasks; nothing was scored on these images"
        return [Estimate(float(m), float(s), _normal(m, s, 0.6745), _normal(m, s, 1.6449), float(s), SKILL, said)
                for m, s in zip(mean, sd, strict=True)]


    def rises(self, configs: Sequence[FastViTConfig]) -> np.ndarray:
        from scipy.stats import norm

        found = self.estimate(configs)
        return np.array([norm.cdf((b.score - a.score) / max(1e-9, float(np.hypot(a.sd, b.sd))))
                         for a, b in itertools.pairwise(found)])


def judge_of(task: str, fingerprint: str, steps: int, rows: Sequence[Evidence] = (), *,
             model: AccuracyModel | None = None) -> Judge:
    """Who estimates on a task.

    Args:
        task: a drawn task's name, or anything else for photographs.
        steps: of the short runs whose scores are estimated on drawn tasks.
        rows: the run's own short runs.
        model: what is known on photographs; None: what ships.
    """
    if task in DRAWN:
        shipped = shipped_evidence(fingerprint)
        return DrawnJudge(steps, [*shipped, *rows], shipped=len({row.config for row in shipped}))
    return PhotographJudge(model or AccuracyModel(f"{fingerprint}/full"))


def photograph_judge(fingerprint: str, images: int, short: Mapping[FastViTConfig, tuple[float, float]] | None = None,
                     steps: int = 0, *, of_run: Sequence[Whole] = ()) -> Judge:
    """Who estimates given networks on photographs, after STANDARD images of training.

    Args:
        images: that there are to train on.
        short: top-1 and its standard deviation of networks that were trained for `steps` steps at full width.
        of_run: what a run on the same images trained whole.
    """
    aim = min(STANDARD, MOST_EPOCHS * images)
    whole = [Whole(f"{fingerprint}/{steps} steps", config, top1, sd, gain(BATCH * steps, aim))
             for config, (top1, sd) in (short or {}).items()]
    return PhotographJudge(AccuracyModel(f"{fingerprint}/full", [*whole, *of_run]))


def run_whole(meta: RunMeta, trials: Sequence[Trial]) -> list[Whole]:
    """The networks that a run trained at full width: its finalists, and with a plan everything that it tried."""
    images = meta.task_fingerprint
    trained = [(r, r.trained) for r in trials if r.trained is not None]
    aim = trained[0][1].trained_images if trained else ENOUGH
    whole = [Whole(f"{images}/full", r.architecture, found.top1, found.sd) for r, found in trained]
    if meta.plan is not None:
        seen = BATCH * meta.steps
        whole += [Whole(f"{images}/short", r.architecture, r.score, r.score_sd or 0.0, gain(seen, aim)) for r in trials
                  if r.config and r.score is not None and r.outcome == "complete"]
    return whole


def run_judge(meta: RunMeta, trials: Sequence[Trial]) -> Judge:
    """Who estimates on a run's images, by what ships and by all that the run found: its proxies, and the networks that
    it trained whole.

    Args:
        trials: of the run, each with what confirming and whole training found.
    """
    task, images = meta.task, meta.task_fingerprint
    rows = evidence(trials)
    # A run from before steps were recorded speaks of the last rung that any trial reached.
    last = meta.steps or max((row.steps for row in rows), default=1)
    if task in DRAWN:
        return judge_of(task, images, last, rows)
    model = AccuracyModel(f"{images}/full", run_whole(meta, trials))
    if meta.plan is not None:
        return judge_of(task, images, last, model=model)
    top = [row for row in rows if row.steps == last]
    proxies = _proxies(images, last, top)
    if proxies.ready:
        model.believe(proxies, list({row.config for row in top}), AGREEMENT)
    return judge_of(task, images, last, model=model)


_kernels: dict[tuple[str, int], tuple[int, Sequence[float]]] = {}  # of the last fits: rows and parameters


def _proxies(images: str, steps: int, rows: Sequence[Evidence]) -> Surrogate:
    """The posterior of a run's proxies. Every proposal asks for it, so the kernel's own parameters stay until there is
    a quarter more to fit them to."""
    fitted_to, theta = _kernels.get((images, steps), (0, None))
    keep = theta is not None and fitted_to <= len(rows) < REFIT_AT * fitted_to
    found = Surrogate(steps).fit(rows, theta=theta if keep else None)
    if found.ready and not keep:
        _kernels[images, steps] = len(rows), found.theta
    return found


def _normal(mean: float, sd: float, times: float) -> tuple[float, float]:
    return float(mean - times * sd), float(mean + times * sd)
