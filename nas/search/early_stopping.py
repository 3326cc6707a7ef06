"""When a trial in training is not worth its next rung."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.estimate.surrogate import Evidence, Surrogate, evidence
from nas.runs.measurement import Origin
from nas.runs.trial import Outcome, Trial

SURE = 0.99  # probability from which a trial is given up
EARLIEST = 0.5  # share of the steps; ending trials earlier gains nothing (docs/LOG.md)
MARGIN = 0.05  # of 60 configurations, none that trailed by so much at step 60 led at step 120 (docs/LOG.md)


def dominated(trial: Trial, trials: Sequence[Trial], surrogate: Surrogate, prior: Sequence[Evidence] = ()) -> str:
    """Why a trial need not be trained on from its last rung; empty when it may be worth it.

    It is dominated when at least half of the steps are done and, in the surrogate's posterior of the top rung, some
    configuration that is no slower scores higher with a probability of SURE. Ending trials at a quarter of the steps
    found no more hypervolume in the same simulated minutes (docs/LOG.md). What the trial itself has shown so far is
    part of what the posterior knows. Before there is enough to fit, a lead of MARGIN at the same rung decides.

    Args:
        trials: of the run; whether this trial is among them does not matter.
    """
    rung, latency_ms = trial.scores[-1], trial.latency_ms
    if latency_ms is None or rung.step < EARLIEST * surrogate.steps:
        return ""
    others = [t for t in trials if t.trial != trial.trial]
    rivals = [t for t in others if t.latency_ms is not None and t.origin == Origin.MEASURED and t.config
              and t.latency_ms <= latency_ms and t.config_key != trial.config_key]
    surrogate.fit([*prior, *evidence([*others, trial])], optimize=False)
    finished = [t for t in rivals if t.outcome == Outcome.COMPLETE and t.score is not None]
    if surrogate.ready and finished:
        from scipy.stats import norm

        mean, sd = surrogate.predict([trial.architecture, *(t.architecture for t in finished)])
        sure = norm.cdf((mean[1:] - mean[0]) / np.hypot(sd[1:], sd[0]))
        best = int(sure.argmax())
        if sure[best] < SURE:
            return ""
        return (f"expected {mean[0]:.3f} ± {sd[0]:.3f} at the end; trial {finished[best].trial} is no slower and "
                f"better with {100 * sure[best]:.0f} % probability")
    lead, leader = max(((other.score - rung.score, t.trial) for t in rivals for other in t.scores
                        if other.step == rung.step), default=(-np.inf, -1))
    return "" if lead <= MARGIN else f"{lead:.3f} behind trial {leader} at step {rung.step}, which is no slower"
