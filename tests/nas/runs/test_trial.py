"""What is read of a trial and of run.json: everything that was written, and nothing that cannot have been."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.runs.budget import is_over_budget, meets_budget
from nas.runs.meta import RunMeta, RunProgress, RunState, read_run, run_json
from nas.runs.trial import UNREADABLE, Outcome, Request, Rung, ScoreOrigin, Trial, from_attrs, to_trial, with_rung
from tests.nas.trials import measured, meta

WHOLE = Trial(3, Outcome.COMPLETE, "a reason", "a trace", PRESETS["t8"], latency=measured(1.5, half_width=0.02),
              score=0.5, score_sd=0.01, scores=(Rung(30, 0.3), Rung(60, 0.5, 0.01, 3.0)), parts={"class": 0.2},
              curve=((1, 2.0), (2, 1.0)), params_m=3.2, gmacs=0.04, cost_s={"proxy": 3.0}, worker="w", seed=0,
              reused_from=0, retried=True, score_origin=ScoreOrigin.TRAINED)


def test_what_is_written_is_read_back() -> None:
    text = json.dumps(WHOLE.to_record(), allow_nan=False)
    assert from_attrs(3, {"record": json.loads(text)}) == WHOLE
    predicted = Trial(1, Outcome.OVER_BUDGET, predicted_ms=3.0)
    assert from_attrs(1, {"record": predicted.to_record()}) == predicted
    assert (predicted.latency_ms, predicted.origin, predicted.counted) == (3.0, "predicted", False)


def test_a_request_is_read_back_and_is_no_part_of_the_record() -> None:
    asked = Request(PRESETS["t8"], "t8", confirms=0, seed=2, retry_of=0, deaths=1, scores=(Rung(30, 0.3),))
    attrs = json.loads(json.dumps(asked.to_attrs()))
    assert Request.read(attrs) == asked
    assert Request.read(attrs | {"record": WHOLE.to_record(), "a later field": 1}) == asked
    assert Request().to_attrs() == {}
    assert from_attrs(4, attrs).preset == "t8"
    assert not {"preset", "confirms", "anchor"} & set(replace(WHOLE, preset="t8", confirms=1).to_record())


BAD: list[tuple[str, Any]] = [
    ("score", float("nan")), ("score", float("inf")), ("score", "0.5"), ("score", True), ("score", [0.5]),
    ("outcome", "done"), ("outcome", None), ("preset", "t9"), ("config", {"depths": "no"}), ("config", 7),
    ("scores", [{"step": 30}]), ("scores", [{"step": -1, "score": 0.1}]), ("scores", {"30": 0.1}),
    ("latency", {"origin": "measured", "latency_ms": 1.0}), ("latency", "1 ms"), ("seed", 1.5), ("worker", 3),
    ("cost_s", {"proxy": float("nan")}), ("curve", [[1]]), ("reason", {"a": 1}), ("reused_from", -1)]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={value!r:.20}" for name, value in BAD])
def test_what_no_search_can_have_written_is_a_failed_trial_that_says_so(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        from_attrs(3, {"record": WHOLE.to_record() | {name: value}})
    found = to_trial(frozen({"record": WHOLE.to_record() | {name: value}}))
    assert (found.trial, found.outcome, found.reason) == (3, Outcome.FAILED, UNREADABLE)
    assert name in (found.traceback or "")
    assert found.row()["outcome"] == "failed"


def frozen(attrs: dict[str, Any]) -> optuna.trial.FrozenTrial:
    found = optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, user_attrs=attrs)
    found.number = 3
    return found


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([f.name for f in fields(Trial)] + ["later"]), JSON, max_size=4), JSON)
def test_any_record_is_read_or_refused(record: dict[str, Any], other: Any) -> None:
    for attrs in ({"record": record}, record, {"record": other}):
        found = to_trial(frozen(attrs))
        json.dumps({key: value for key, value in found.row().items() if "ed" not in key[-2:]}, allow_nan=False)
        assert isinstance(found.outcome, Outcome)


def test_deep_json_is_refused_in_one_sentence(tmp_path: Path) -> None:
    from nas.runs.run import Run

    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert to_trial(frozen({"record": WHOLE.to_record() | {"parts": deep}})).reason == UNREADABLE
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        Run.open(tmp_path)


def test_run_json_is_read_back() -> None:
    asked, progress = meta(budgets=(1.0, 2.0), seed=3), RunProgress(RunState.FINISHED, elapsed_s=3.0, feasible="all")
    text = json.dumps(run_json(asked, progress), allow_nan=False)
    assert read_run(json.loads(text) | {"a later field": 1}, Path("run.json")) == (asked, progress)
    assert json.loads(text)["reach"] == "all", "the name that earlier versions read"


@pytest.mark.parametrize(("name", "value"), [
    ("budget_ms", "2"), ("budget_ms", float("nan")), ("budget_ms", 0.0), ("resolution", 64.5), ("resolution", 0),
    ("space", {"name": "x"}), ("space", "default"), ("task", None), ("seed", -1), ("elapsed_s", "long"),
    ("trial_limit", []), ("budgets", [1.0, "x"])])
def test_a_damaged_run_json_is_refused_in_one_sentence(name: str, value: Any) -> None:
    values = run_json(meta(), RunProgress()) | {name: value}
    with pytest.raises(UsageError, match=f"run.json is damaged: {name}") as caught:
        read_run(values, Path("run.json"))
    assert "\n" not in str(caught.value)


def test_an_unknown_state_is_that_of_nobody_who_runs() -> None:
    assert read_run(run_json(meta(), RunProgress()) | {"state": "<b>"}, Path("x"))[1].state == RunState.INTERRUPTED


def test_a_rung_takes_the_place_of_an_earlier_one_of_its_step() -> None:
    found = with_rung(with_rung(Trial(0, scores=(Rung(60, 0.5),)), Rung(30, 0.2)), Rung(60, 0.6))
    assert found.scores == (Rung(30, 0.2), Rung(60, 0.6))


def test_one_rule_says_what_meets_a_budget() -> None:
    assert meets_budget(2.0, 2.0)
    assert not meets_budget(2.01, 2.0)
    assert not is_over_budget(2.0, 2.0)
    assert is_over_budget(2.01, 2.0)
    for low, high in ((1.9, 2.1), (1.0, 1.5), (2.5, 3.0)):
        trial = Trial(0, latency=replace(measured(2.0), ci_low_ms=low, ci_high_ms=high))
        assert trial.meets_budget(2.0) == (high <= 2.0)
    assert not Trial(0, predicted_ms=1.0).meets_budget(2.0), "a prediction meets nothing"


def test_meta_without_budgets_serves_its_one() -> None:
    assert meta().budgets == (2.0,)
    assert isinstance(meta(), RunMeta)
