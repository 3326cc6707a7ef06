"""A real server and a real browser: what the page runner of Streamlit cannot see. Skipped without Chromium."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.commands.dashboard import command, environment

api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
POINT = """([name, index]) => {
  const plot = document.querySelector('.js-plotly-plot'), at = plot.getBoundingClientRect(), full = plot._fullLayout;
  const trace = plot._fullData.find(t => t.name === name), i = index < 0 ? trace.x.length + index : index;
  return [at.left + full.xaxis._offset + full.xaxis.d2p(trace.x[i]),
          at.top + full.yaxis._offset + full.yaxis.d2p(trace.y[i])];
}"""


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(command(port, browser=False), env=environment(root, "demo"), cwd=root,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(150):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test on any error in the console, and on any request to another machine."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(f"left this machine: {request.url}")
            if request.url.startswith("http") and "//127.0.0.1" not in request.url else None)
    yield page
    exceptions = [element.inner_text() for element in page.query_selector_all("[data-testid=stException]")]
    page.close()
    assert not errors
    assert not exceptions


def settle(page: Any) -> None:
    """Wait until Streamlit has nothing more to draw."""
    page.wait_for_selector(".js-plotly-plot")
    page.wait_for_timeout(300)
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')")


def click(page: Any, trace: str, index: int = 0) -> None:
    x, y = page.evaluate(POINT, [trace, index])
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)


def test_a_click_on_a_point_shows_it_and_its_link_restores_it(page: Any, address: str) -> None:
    page.goto(address)
    settle(page)
    click(page, "front, confirmed", 1)
    page.get_by_role("button", name="Compare", exact=True).wait_for()
    page.wait_for_function("() => location.search.includes('pick=')")
    link = page.url
    shown = page.locator("[data-testid=stMetricValue]").all_inner_texts()
    page.goto("about:blank")
    page.goto(link)
    settle(page)
    page.get_by_role("button", name="Compare", exact=True).wait_for()
    assert page.locator("[data-testid=stMetricValue]").all_inner_texts() == shown
    assert page.evaluate("() => document.querySelector('.js-plotly-plot').data.some(t => t.name === 'chosen')")


def test_dark_theme(browser: Any, address: str) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    settle(page)
    background = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert sum(int(part) for part in background[4:-1].split(",")[:3]) < 150
    page.close()
