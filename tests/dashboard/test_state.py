from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.state import Ref, View, find_runs, from_query, inside, why_not_together
from tests.nas.trials import meta

VIEW = View(runs=("demo", "other"), pick=Ref("demo", "12"), budget_ms=1.25, x="gmacs", log=False,
            show=("failed",), compare=(Ref("", "t8"), Ref("other", "3")), against="s12",
            limits=(("least_score", 0.5), ("most_params_m", 4.0)), change=("depths3:9", "mlp_ratios1:2.5"))


def lists(view: View) -> dict[str, list[str]]:
    return {key: [value] if isinstance(value, str) else value for key, value in view.to_query().items()}


@pytest.mark.parametrize("view", [View(), VIEW, VIEW.replace(pick=None, budget_ms=None)])
def test_a_view_survives_its_url(view: View) -> None:
    assert from_query(lists(view), ["demo", "other"]) == view


@pytest.mark.parametrize("query", [
    {"run": ["../secret"]}, {"run": ["/etc"]}, {"run": [".hidden/x"]}, {"pick": ["../x:1"]}, {"pick": ["demo:-1"]},
    {"pick": ["demo:1e3"]}, {"pick": ["t9"]}, {"budget": ["nan"]}, {"budget": ["-1"]}, {"budget": ["1e9"]},
    {"budget": ["<script>"]}, {"x": ["__class__"]}, {"y": [""]}, {"show": ["everything"]}, {"compare": [":", "a:b"]},
    {"unknown": ["1"]}, {"pick": []}, {"against": ["t99"]}, {"least_score": ["nan"]}, {"most_params_m": ["-1"]},
    {"change": ["depths9:1", "__class__1:x", "depths3:<b>"]},
])
def test_what_a_url_may_not_say_is_dropped(query: dict[str, list[str]]) -> None:
    assert from_query(query, ["demo"]) == View()


def test_a_run_that_is_gone_is_kept_apart_and_its_link_stays() -> None:
    found = from_query({"run": ["gone", "demo", "gone"]}, ["demo"])
    assert (found.runs, found.gone) == (("demo",), ("gone",))
    assert from_query(lists(found), ["demo"]) == found


def test_a_comparison_has_at_most_four() -> None:
    assert len(from_query({"compare": ["t8", "t12", "s12", "sa12", "sa24", "t8"]}, []).compare) == 4


def test_runs_are_found_newest_first_and_links_out_are_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "runs"
    for folder in (outside, root / "a", root / ".hidden", root / "not-a-run"):
        folder.mkdir(parents=True)
        if folder.name != "not-a-run":
            (folder / "run.json").write_text("{}")
    (root / "link").symlink_to(outside)
    assert list(find_runs(root)) == ["a"]
    assert find_runs(tmp_path / "none") == {}


def test_no_path_outside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a", "b") == tmp_path / "a" / "b"
    for parts in (("..",), ("a", "..", ".."), ("/etc",)):
        with pytest.raises(ValueError, match="is not below"):
            inside(tmp_path, *parts)


def test_runs_of_two_devices_do_not_share_axes() -> None:
    own = meta(device="onnxruntime")
    assert why_not_together({"a": own, "b": meta(device="onnxruntime")}) is None
    assert "its device is openvino, not onnxruntime" in (
        why_not_together({"a": own, "b": meta(device="openvino")}) or "")
