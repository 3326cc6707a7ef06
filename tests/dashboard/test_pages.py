"""The pages under Streamlit's own test runner: every one draws without an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard.state import ROOT, RUN

APP = Path(dashboard.__file__).parent / "app.py"


@pytest.fixture
def app(root: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(ROOT, str(root))
    monkeypatch.setenv(RUN, "demo")
    return AppTest.from_file(str(APP), default_timeout=60)


def words(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.warning, app.info, app.error)
    return " ".join(str(element.value) for kind in kinds for element in kind)


def test_front(app: AppTest) -> None:
    app.run()
    assert not app.exception
    assert "on the front under 1\\.5 ms" in words(app) or "on the front under 1.5 ms" in words(app)
    assert "demonstration" in words(app)
    assert app.session_state["view"].runs == ("demo",)


def test_the_budget_moves(app: AppTest) -> None:
    app.run()
    app.number_input(key="budget_number").set_value(1.1).run()
    assert not app.exception
    assert "under 1.1 ms" in words(app)
    assert app.slider(key="budget_slider").value == pytest.approx(1.1)


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


def at(app: AppTest, page: str) -> AppTest:
    """Open a page by its address: the test runner switches pages by file, and these are functions."""
    app.run()
    app.session_state["go_to"] = page
    return app
