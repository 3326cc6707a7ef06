"""How often a recommendation holds where the truth is known, beside the dumbest rule: take the highest score.

    python benchmarks/recommendation.py [--points 8] [--sd 0.01] [--spread 0.03] [--repeats 2000]

Points of a front with true scores that rise by `spread` from the fastest to the slowest, evenly in the logarithm of
latency, plus what each network has of its own; seen with errors of `sd`. Printed: how often the truly best is among
the tied (the rule promises it nearly always), how often the highest score is truly the best, and for both rules what
the pick truly loses against the best, and how much faster than the best it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastvit.presets import PRESETS
from nas.report.recommendation import recommend
from nas.runs.run import Trial

BUDGET_MS = 2.0


def trial(number: int, ms: float, score: float, sd: float) -> Trial:
    latency = {"origin": "measured", "latency_ms": ms, "ci_low_ms": 0.99 * ms, "ci_high_ms": 1.01 * ms}
    found = {"score": score, "score_sd": sd, "runs": [], "latency_before": latency}
    return Trial(trial=number, outcome="complete", config=PRESETS["t8"].to_dict(), latency=latency, score=score,
                       score_sd=sd, confirmed=found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--sd", type=float, default=0.01)
    parser.add_argument("--spread", type=float, default=0.03)
    parser.add_argument("--repeats", type=int, default=2000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    ms = np.geomspace(0.5, 1.95, args.points)
    rows = []
    for _ in range(args.repeats):
        truth = np.linspace(0, args.spread, args.points) + rng.normal(0, args.sd / 2, args.points)
        seen = truth + rng.normal(0, args.sd, args.points)
        trials = [trial(i, ms[i], 0.5 + seen[i], args.sd) for i in range(args.points)]
        found = recommend(trials, BUDGET_MS, resolution=64)
        assert found is not None
        best, dumb, pick = int(truth.argmax()), found.pick.trial, (found.faster or found.pick).trial
        rows.append((best in [r.trial for r in found.tied], best == dumb, truth[best] - truth[pick],
                     truth[best] - truth[dumb], 1 - ms[pick] / ms[best], 1 - ms[dumb] / ms[best], len(found.tied)))
    held, right, loss, dumb_loss, faster, dumb_faster, tied = np.mean(rows, axis=0)
    print(f"{args.points} points, errors of {args.sd:g}, true scores rising by {args.spread:g}; {args.repeats} repeats")
    print(f"the truly best is among the tied ({tied:.1f} points): {100 * held:.1f} %")
    print(f"the highest score is truly the best:        {100 * right:.1f} %")
    print(f"{'':<24}{'true score lost':>16}{'faster than the best':>22}")
    print(f"{'fastest that is tied':<24}{loss:>16.4f}{100 * faster:>20.0f} %")
    print(f"{'the pick, the highest':<24}{dumb_loss:>16.4f}{100 * dumb_faster:>20.0f} %")


if __name__ == "__main__":
    main()
