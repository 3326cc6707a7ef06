"""Demo runs below a root of their own, a server for them and a browser, each made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from dashboard import demo
from dashboard.serve import serving
from tests.nas.trials import rewritten, with_meta

BUDGET_MS = 1.5
HOSTILE = "<img src=x onerror=window.hit=1> **bold** [a](javascript:window.hit=1) $x$ :red[r] `c`"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `demo` and `other`, which may share axes, and `elsewhere`, which may not.

    Beside them lie a run with hostile text, and settings for Streamlit that must not be taken.
    """
    folder = tmp_path_factory.mktemp("runs")
    with_meta(demo.make(folder / "elsewhere", 3, seed=3), device="another")
    hostile(folder / "hostile *run* <b>x")
    with_meta(demo.make(folder / "other", 12, seed=2), budgets=(0.8, 1.1, 1.5))
    demo.make(folder / "demo", 40, budget_ms=BUDGET_MS)
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text('[theme]\nbase = "dark"\n[server]\nenableStaticServing = true\n')
    return folder


def hostile(path: Path) -> None:
    """A run whose every text would do something if it were taken for more than text."""
    run = demo.make(path, 3, seed=4, finalists=0)
    rewritten(run, task=HOSTILE, device=HOSTILE, state=HOSTILE)
    for reason, record in (("=cmd() " + HOSTILE, {"outcome": "failed", "worker": HOSTILE, "traceback": HOSTILE}),
                           (HOSTILE, {"outcome": "over_budget", "preset": HOSTILE}),
                           (HOSTILE, {"outcome": HOSTILE}),
                           (HOSTILE, {"outcome": "complete", "config": {"depths": "no"}}),
                           (HOSTILE, {"outcome": "complete", "score": "high", "latency": {"latency_ms": "low"}})):
        trial = run.study.ask()
        trial.set_user_attr("record", record | {"reason": reason})
        run.study.tell(trial, state=TrialState.FAIL)
    trial = run.study.ask()
    trial.set_user_attr("record", {"outcome": "complete", "anchor": HOSTILE, "params_m": 1.0, "latency": {
        "origin": "measured", "latency_ms": 1.0, "ci_low_ms": 0.9, "ci_high_ms": 1.1, "flags": [HOSTILE]}})
    run.study.tell(trial, state=TrialState.FAIL)


@pytest.fixture(scope="session")
def address(root: Path) -> Iterator[str]:
    with serving(root, "demo") as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that fails its test on any error in the console, and on any request to another machine."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000}, base_url=address)
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(f"left this machine: {request.url}")
            if request.url.startswith("http") and not request.url.startswith(address) else None)
    yield page
    exceptions = [element.inner_text() for element in page.query_selector_all("[data-testid=stException]")]
    page.close()
    assert not errors
    assert not exceptions
