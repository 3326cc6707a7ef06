"""What a run says of points that it cannot tell apart."""

from __future__ import annotations

import pytest

from fastvit import PRESETS
from nas.report.apart import told_apart
from nas.runs.meta import RunMeta, SpaceSource
from nas.runs.trial import Estimate, Outcome, Source, Trial

META = RunMeta(id="r", budget_ms=2.0, device="onnxruntime", resolution=64, task="builtin", space=SpaceSource("s", ""))
PHOTOGRAPHS = RunMeta(id="r", budget_ms=2.0, device="onnxruntime", resolution=64, task="/photographs",
                      task_fingerprint="x", plan={"pixels": 64, "steps": 100}, steps=100, space=SpaceSource("s", ""))


def trials(*scores: float, sd: float = 0.01, names: tuple[str, ...] = ("t8", "t12", "sa24")) -> list[Trial]:
    return [Trial(number, Outcome.COMPLETE, config=PRESETS[name], score=score, score_sd=sd,
                  posterior=Estimate(score, sd, Source.POSTERIOR))
            for number, (score, name) in enumerate(zip(scores, names, strict=False))]


@pytest.mark.parametrize(("scores", "said"), [
    ((0.30, 0.301, 0.302), "cannot tell the points of this front apart"), ((0.30, 0.302, 0.35), "1 of 2 neighbours"),
    ((0.30, 0.35, 0.40), ""), ((0.30,), "")])
def test_by_scores_and_their_doubt(scores: tuple[float, ...], said: str) -> None:
    found = told_apart(META, trials(*scores), trials(*scores))
    assert said in found
    assert bool(found) == bool(said)


def test_on_photographs_the_level_is_no_doubt_between_two_points() -> None:
    """Each top-1 is uncertain by more than ten points, the order of T8 and SA24 is not."""
    found = trials(0.7, 0.72, 0.75, sd=0.15)
    assert "cannot tell the points" not in told_apart(PHOTOGRAPHS, [], found)
    alike = trials(0.7, 0.7, sd=0.15, names=("t12", "s12"))
    assert "cannot tell the points" in told_apart(PHOTOGRAPHS, [], alike)
