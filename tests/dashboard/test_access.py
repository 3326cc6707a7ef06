"""Every page under axe-core, in both themes and on a phone: no violation. Skipped without Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.state import PAGES
from tests.dashboard.test_browser import open_page

WIDTHS = {"desk": 1440, "phone": 390}
SHOWN = "[data-testid=stButton], h4, h5"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_violation(browser: Any, address: str, theme: str, width: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = browser.new_page(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=theme, base_url=address)
    found = []
    try:
        for name in PAGES:
            open_page(page, f"?run=demo&page={name}&pick=demo:9&compare=demo:9&compare=t8", SHOWN)
            page.wait_for_timeout(500)  # colours move when a theme is taken
            found += [f"{name}: {violation['id']}, {node['html'][:200]}"
                      for violation in axe.Axe().run(page).response["violations"] for node in violation["nodes"]]
    finally:
        page.close()
    assert not found


@pytest.mark.parametrize("page_name", PAGES)
def test_a_phone_shows_the_navigation_whole_and_nothing_wider_than_itself(browser: Any, address: str, page_name: str
                                                                         ) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, base_url=address)
    try:
        open_page(page, f"?run=demo&page={page_name}&pick=demo:9&compare=demo:9&compare=t8", SHOWN)
        page.wait_for_timeout(500)  # the navigation first scrolls to its chosen entry, and wraps then
        for entry in page.get_by_role("radiogroup", name="Page").get_by_role("radio").all():
            box = entry.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
            at = page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.closest('[role=radio]')?.innerText",
                               [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
            assert at == entry.inner_text()  # nothing lies over it
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        if page_name == "front":
            assert page.locator(".js-plotly-plot").first.bounding_box()["y"] < 0.65 * 844
    finally:
        page.close()
