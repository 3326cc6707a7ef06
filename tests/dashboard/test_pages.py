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
    assert "on the front under 1.5 ms" in words(app)
    assert "demonstration" in words(app)
    assert app.session_state["view"].runs == ("demo",)


def test_the_budget_moves(app: AppTest) -> None:
    app.run()
    app.number_input(key="budget_number").set_value(1.1).run()
    assert not app.exception
    assert "under 1.1 ms" in words(app)
    assert app.slider(key="budget_slider").value == pytest.approx(1.1)


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
    assert "No run is chosen" in words(app)


def test_a_damaged_run_is_named(app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    monkeypatch.setenv(ROOT, str(tmp_path))
    app.run()
    assert not app.exception
    assert "is damaged" in words(app)


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
    assert app.table[0].value.columns.tolist() == ["T8", "trial 11"]


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
