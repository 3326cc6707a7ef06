"""When a trial in training is not worth its next rung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastvit.config import FastViTConfig
from nas.estimate.surrogate import Evidence, Surrogate, evidence

if TYPE_CHECKING:
    from nas.runs.run import TrialRecord

SURE = 0.99
EARLIEST = 0.5  # of the steps; earlier ends gain nothing (docs/LOG.md)
MARGIN = 0.05  # a lead after 60 steps that no pair of 60 configurations lost by 120 (docs/LOG.md)


def dominated(config: FastViTConfig, score: float, steps: int, latency_ms: float, records: Sequence[TrialRecord],
              surrogate: Surrogate, prior: Sequence[Evidence] = ()) -> str:
    """Why a configuration with this score after `steps` steps need not be trained on; empty when it may be worth it.

    It is dominated when at least half of the steps are done and, in the surrogate's posterior of the top rung, some
    configuration that is no slower scores higher with a probability of SURE. Ending trials at a quarter of the steps
    found no more hypervolume in the same simulated minutes (docs/LOG.md). The partial
    evidence of the trial itself is part of what the posterior knows, when `records` hold it. Before there is enough
    to fit, a lead of MARGIN at the same rung decides.
    """
    if steps < EARLIEST * surrogate.steps:
        return ""
    rivals = [r for r in records if r.latency_ms is not None and r.origin == "measured" and r.config
              and r.latency_ms <= latency_ms and r.config_key != config.key()]
    surrogate.fit([*prior, *evidence(records)], optimize=False)
    finished = [r for r in rivals if r.outcome == "complete" and r.score is not None]
    if surrogate.ready and finished:
        from scipy.stats import norm

        mean, sd = surrogate.predict([config, *(r.architecture for r in finished)])
        sure = norm.cdf((mean[1:] - mean[0]) / np.hypot(sd[1:], sd[0]))
        best = int(sure.argmax())
        if sure[best] < SURE:
            return ""
        return (f"expected {mean[0]:.3f} ± {sd[0]:.3f} at the end; trial {finished[best].trial} is no slower and "
                f"better with {100 * sure[best]:.0f} % probability")
    lead, trial = max(((rung["score"] - score, r.trial) for r in rivals for rung in r.scores
                       if rung["step"] == steps), default=(-np.inf, -1))
    return "" if lead <= MARGIN else f"{lead:.3f} behind trial {trial} at step {steps}, which is no slower"
