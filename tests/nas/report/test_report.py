"""The words of a front: differences to presets, what is confirmed, several budgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvit import PRESETS
from fastvit.difference import in_words, nearest_preset
from nas.report.printed import against, front_frame, front_table


def point(name: str, ms: float, score: float, **more: Any) -> dict[str, Any]:
    config = PRESETS[name].replace(depths=(2, 2, 5, 2), mlp_ratios=(4, 4, 3, 4))
    return {"trial": 9, "config": config.to_dict(), "config_key": config.key(), "latency_ms": ms,
            "ci_low_ms": 0.98 * ms,
            "ci_high_ms": 1.02 * ms, "score": score, "score_sd": 0.003, "score_from": "posterior", "score_run": score,
            "params_m": 10.0, "gmacs": 0.1, "confirmed": False, "preset": None,
            "estimated_imagenet_top1": [80.0, 78.0, 82.0], "estimated_long_run": [0.5, 0.4, 0.6]} | more


def front(*points: dict[str, Any], budgets: tuple[float, ...] = (2.0,)) -> dict[str, Any]:
    anchor = point("sa12", 1.6, 0.300) | {"preset": "sa12", "config": PRESETS["sa12"].to_dict(), "score_sd": 0.004}
    return {"run": "r", "device": "onnxruntime", "origin": "measured", "resolution": 64, "budget_ms": budgets[-1],
            "budgets": list(budgets), "task": "builtin", "hypervolume": 0.1,
            "points": list(points), "anchors": [anchor]}


def test_a_point_beside_its_nearest_preset() -> None:
    one = point("sa12", 1.5, 0.303)
    words = against(one, front(one), "sa12")
    assert words == "SA12 with stage-3 depth 6 -> 5, ratio 4 -> 3: -0.10 ms, score +0.003 ± 0.005"


def test_many_changes_are_counted() -> None:
    far = PRESETS["t8"].replace(depths=(1, 1, 1, 1), ffn_kernels=(3, 3, 3, 3))
    assert nearest_preset(far) == "t8"
    assert in_words(far, PRESETS["t8"], most=1) == "stage-3 depth 4 -> 1; 7 more changes"
    assert in_words(PRESETS["t8"], PRESETS["t8"], most=1) == "the same"


def test_the_table_says_what_is_confirmed_and_serves_every_budget() -> None:
    sure = point("sa12", 0.9, 0.2, confirmed=True, score_from="confirmed")
    open_ = point("sa12", 1.5, 0.303)
    text = front_table(front(sure, open_, budgets=(0.5, 1.0, 2.0)))
    assert "1 of 2 points confirmed" in text
    assert text.count("(not confirmed)") == 1
    assert "under 0.5 ms: nothing" in text
    assert "under 1 ms: trial 9, 0.900" in text
    assert "posterior scores, not confirmed" in " ".join(front_table(front(open_)).split())
    assert "80.0 [78.0, 82.0]" in front_table(front(sure), estimate="imagenet")
    assert "0.50 [0.40, 0.60]" in front_table(front(sure), estimate="long_run")


@given(st.integers(30, 200), st.booleans())
def test_the_table_fits_every_terminal(width: int, confirmed: bool) -> None:
    points = [point("sa12", 1.5, 0.303, confirmed=confirmed), point("t8", 0.5, 0.2, confirmed=True)]
    text = front_table(front(*points, budgets=(0.1, 2.0)) | {"movement": "confirmed: 2 finalists, none fell off"},
                       width=width)
    assert max(map(len, text.splitlines())) <= width
    squeezed = "".join(text.split())
    for shown in ("1.500", "0.303", "0.500", "0.300", "SA12aspublished", "under0.1ms:nothing", "nonefelloff"):
        assert shown in squeezed


def test_a_terminal_tells_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    one = front(point("sa12", 1.5, 0.303))
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, front_table(one).splitlines())) <= 40
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, front_table(one).splitlines())) > 120, "a file or a pipe gets the whole table"


def test_what_fell_off_stays_visible() -> None:
    fell = point("sa12", 0.8, 0.1, confirmed=True, words="depths 2-2-5-2") | {"trial": 77}
    text = front_table(front(point("sa12", 1.5, 0.303)) | {"fell_off": [fell], "movement": "confirmed: 2 finalists"})
    assert "(fell off) depths 2-2-5-2" in text
    assert text.endswith("confirmed: 2 finalists")


def test_the_csv_labels_estimates() -> None:
    frame = front_frame(front(point("sa12", 1.5, 0.303)))
    assert frame.estimated_imagenet_top1.tolist() == [80.0]
    assert frame.nearest_preset.tolist() == ["sa12"]
