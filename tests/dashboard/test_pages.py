"""The pages under Streamlit's own test runner: every one draws without an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard.state import PAGES, ROOT, RUN

APP = Path(dashboard.__file__).parent / "app.py"


@pytest.fixture
def app(root: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(ROOT, str(root))
    monkeypatch.setenv(RUN, "demo")
    return AppTest.from_file(str(APP), default_timeout=60)


def words(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.warning, app.info, app.error)
    return " ".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def test_front(app: AppTest) -> None:
    app.run()
    assert not app.exception
    assert "#### Take " in words(app)
    assert "up to 1.5 ms is" in words(app)
    assert "beyond doubt" in words(app)
    assert "on the front of measured latency and proxy score under 1.5 ms" in words(app)
    assert "the 95 % interval of its latency ends below it" in words(app)  # the rule of the front stands on the page
    assert "finalists with 3 seeds each" in words(app)
    assert "points of the front; " in words(app)
    assert "demonstration" in words(app)
    assert app.session_state["view"].runs == ("demo",)


def test_limits_choose_another_and_stand_in_the_address(app: AppTest) -> None:
    app.run()
    first = next(m.value for m in app.markdown if m.value.startswith("#### Take"))
    app.number_input(key="limit_most_params_m").set_value(1.5).run()
    assert not app.exception
    assert "1.5" in app.query_params["most_params_m"]
    found = next(m.value for m in app.markdown if m.value.startswith("####")).replace("\\", "")
    assert found != first
    app.number_input(key="limit_most_params_m").set_value(0.01).run()
    assert "No point meets the limits" in words(app)


def test_the_reader_chooses_the_preset_to_stand_beside(app: AppTest) -> None:
    app.query_params["against"] = "ma36"
    app.run()
    assert "against MA36: -" in words(app)
    assert "Against MA36: -" in words(app)


def test_a_star_and_a_note_are_kept_in_the_run(app: AppTest, root: Path) -> None:
    from nas.runs.marks import read_marks
    from nas.runs.run import Run

    app.query_params["pick"] = "other:9"
    app.query_params["run"] = ["other"]
    app.run()
    app.toggle(key="star_other:9").set_value(True).run()
    app.text_input(key="note_other:9").set_value("for the doorbell").run()
    assert not app.exception
    mark = read_marks(Run.open(root / "other").attrs())[9]
    assert (mark.star, mark.note) == (True, "for the doorbell")
    assert app.toggle(key="star_other:9").value is True


def test_a_run_that_goes_on_says_how_far_it_is(app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from dashboard import demo

    run = demo.make(tmp_path / "live", 9, finalists=0)
    run.update(state="running", launcher_pid=os.getpid(), seconds_left=600.0,
               search_seconds_left=400.0, workers=2, confirming="later")
    empty = demo.make(tmp_path / "empty", 0)
    empty.journal.unlink()
    empty.update(state="running", launcher_pid=os.getpid())
    monkeypatch.setenv(ROOT, str(tmp_path))
    app.query_params["run"] = ["live"]
    app.run()
    assert not app.exception
    assert "configurations are done, 7 min are left for it. The run ends in 10 min" in words(app)
    assert "Plan: 2 workers, proposals by a surrogate of the score" in words(app)
    app.query_params["run"] = ["empty"]
    app.run()
    assert "Nothing is measured yet. First a parent network is trained" in words(app)


def test_the_budget_moves(app: AppTest) -> None:
    app.run()
    app.number_input(key="budget_number").set_value(1.1).run()
    assert not app.exception
    assert "under 1.1 ms" in words(app)
    assert app.select_slider(key="budget_slider").value == 1.1


def test_one_of_several_budgets_is_chosen(app: AppTest) -> None:
    app.query_params["run"] = ["other"]
    app.run()
    choice = app.pills(key="budget_choice")
    assert choice.options == ["0.8 ms", "1.1 ms", "1.5 ms"]
    assert choice.value == 1.5
    choice.set_value(1.1).run()
    assert not app.exception
    assert "under 1.1 ms" in words(app)
    app.number_input(key="budget_number").set_value(0.9).run()
    assert app.pills(key="budget_choice").value is None
    assert not app.exception


def test_a_link_restores_the_view(app: AppTest) -> None:
    app.query_params["run"] = ["demo", "../etc"]
    app.query_params["pick"] = "demo:3"
    app.query_params["x"] = "params_m"
    app.run()
    assert not app.exception
    assert app.selectbox(key="view_x").value == "params_m"
    assert "trial 3" in words(app)
    assert app.session_state["view"].runs == ("demo",)


def test_runs_of_another_device_are_refused_in_words(app: AppTest) -> None:
    app.query_params["run"] = ["demo", "other", "elsewhere"]
    app.run()
    assert not app.exception
    assert "elsewhere cannot share axes with demo: its device is another" in words(app)


def test_no_runs_at_all(app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT, str(tmp_path))
    app.run()
    assert not app.exception
    assert "No run is open" in words(app)


@pytest.mark.parametrize("value", [-3.0, 0.0, 1e7])
def test_a_budget_that_cannot_be_is_refused_in_words(app: AppTest, value: float) -> None:
    app.run()
    app.number_input(key="budget_number").set_value(value).run()
    assert not app.exception
    assert f"{value:g} ms: expected a budget above 0; 1.5 ms stays" in words(app)
    assert app.number_input(key="budget_number").value == 1.5
    app.run()
    assert "expected a budget" not in words(app)


def test_the_way_back_to_the_run_s_own_budget(app: AppTest) -> None:
    app.query_params["budget"] = "0.47"
    app.run()
    assert app.select_slider(key="budget_slider").value == 0.47
    app.button(key="budget_back").click().run()
    assert app.session_state["view"].budget_ms is None
    assert not [button for button in app.button if button.key == "budget_back"]


@pytest.mark.parametrize("page", PAGES)
def test_a_link_to_a_run_that_is_gone_says_so_and_opens_no_other(app: AppTest, page: str) -> None:
    app.query_params["run"] = ["gone"]
    app.query_params["page"] = page
    app.run()
    assert not app.exception
    assert words(app).count("gone is not below") == 1
    assert app.session_state["view"].runs == ()
    app.multiselect(key="view_runs").set_value(["demo"]).run()
    assert "gone is not below" not in words(app)
    assert app.session_state["view"].runs == ("demo",)


def damage(path: Path, how: str) -> None:
    journal = path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    if how == "no journal":
        journal.unlink()
    elif how == "empty journal":
        journal.write_bytes(b"")
    elif how == "half a journal":
        journal.write_bytes(b"".join(lines[:len(lines) // 2]))
    elif how == "half a line":
        journal.write_bytes(b"".join(lines)[:-9])
    elif how == "a line that is none":
        journal.write_bytes(b"".join([*lines[:9], b"{\n", *lines[9:]]))
    else:
        (path / "run.json").write_text("{")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("how", ["no journal", "empty journal", "half a journal", "half a line",
                                 "a line that is none", "half a run.json"])
def test_a_damaged_run_is_named_once_and_never_reads_as_finished(app: AppTest, tmp_path: Path, how: str, page: str,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import demo

    demo.make(tmp_path / "bad", 9, finalists=0)
    damage(tmp_path / "bad", how)
    monkeypatch.setenv(ROOT, str(tmp_path))
    monkeypatch.setenv(RUN, "")
    app.query_params["page"] = page
    app.run()
    assert not app.exception
    assert sum(str(tmp_path / "bad") in str(one.value).replace("\\", "") for one in app.warning) == 1
    assert "bad** finished" not in words(app)


def test_a_damaged_newest_run_is_passed_over(app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import demo

    demo.make(tmp_path / "good", 4, finalists=0)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    monkeypatch.setenv(ROOT, str(tmp_path))
    monkeypatch.setenv(RUN, "")
    app.run()
    assert app.session_state["view"].runs == ("good",)
    assert not app.exception


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("query", [{}, {"pick": ["demo:9"], "compare": ["demo:9", "t8", "demo:20"]},
                                   {"pick": ["t8"], "run": ["demo", "other"], "target": ["equal"]}])
def test_every_page_draws(app: AppTest, page: str, query: dict[str, list[str]]) -> None:
    app.query_params["page"] = page
    for name, values in query.items():
        app.query_params[name] = values
    app.run()
    assert not app.exception
    assert not app.error
    assert app.session_state["view"].page == page


@pytest.mark.parametrize("page", PAGES)
def test_every_page_draws_a_run_without_trials(app: AppTest, page: str, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import demo

    run = demo.make(tmp_path / "new", 0)
    run.journal.unlink()
    monkeypatch.setenv(ROOT, str(tmp_path))
    app.query_params["page"] = page
    app.run()
    assert not app.exception


def test_trials_are_filtered_and_a_link_says_so(app: AppTest) -> None:
    app.query_params["page"] = "trials"
    app.run()
    app.text_input(key="view_find").set_value("nan step").run()
    assert not app.exception
    assert "the loss became NaN" in app.dataframe[0].value.reason.iloc[0]
    assert "nan step" in app.query_params["find"]
    assert {button.label for button in app.get("download_button")} == {"CSV", "Parquet"}


def test_a_comparison_grows_from_any_trial(app: AppTest) -> None:
    app.query_params["page"] = "compare"
    app.query_params["compare"] = ["t8"]
    app.run()
    assert "Choose at least two" in words(app)
    app.number_input(key="compare_number").set_value(11).run()
    app.button(key="compare_add").click().run()
    assert "trial 11 against T8" in words(app)
    assert "<th>T8</th>\n      <th>trial 11</th>" in app.get("html")[1].proto.body


def test_an_address_that_comes_back_is_followed(app: AppTest) -> None:
    app.run()
    app.segmented_control(key="view_page").set_value("trials").run()
    assert "trials" in app.query_params["page"]
    app.query_params.clear()
    app.query_params["run"] = ["other"]
    app.run()
    assert app.session_state["view"].runs == ("other",)
    assert app.session_state["view"].page == "front"


@pytest.mark.parametrize("folder", ["..", "../x", "/tmp", "a/b", "workers", ".hidden", "a b"])
def test_an_export_stays_below_its_run(app: AppTest, folder: str) -> None:
    app.query_params["page"] = "export"
    app.query_params["pick"] = "demo:9"
    app.run()
    app.text_input(key="export_folder").set_value(folder).run()
    assert not app.exception
    assert len(app.error) == 1
    assert not [button for button in app.button if button.key == "export_start"]


def test_a_name_that_cannot_be_is_said(app: AppTest) -> None:
    app.query_params["page"] = "export"
    app.query_params["pick"] = "demo:9"
    app.run()
    field = next(field for field in app.text_input if field.label == "Name of the variant")
    field.set_value("../evil").run()
    assert not app.exception
    assert "expected 3 to 41 small letters" in words(app)
    assert app.button(key="export_start").disabled
