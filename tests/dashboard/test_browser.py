"""A real server and a real browser: what the page runner of Streamlit cannot see. Skipped without Chromium."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from dashboard import demo
from dashboard.state import PAGES
from fastvit.presets import PRESETS
from nas.runs.run import Run
from space import SearchSpace

POINT = """([name, index]) => {
  const plot = document.querySelector('.js-plotly-plot'), at = plot.getBoundingClientRect(), full = plot._fullLayout;
  const trace = plot._fullData.find(t => t.name === name), i = index < 0 ? trace.x.length + index : index;
  return [at.left + full.xaxis._offset + full.xaxis.d2p(trace.x[i]),
          at.top + full.yaxis._offset + full.yaxis.d2p(trace.y[i])];
}"""
DRAWN = "(name) => document.querySelector('.js-plotly-plot')?.data.some(t => t.name === name)"
RANGE = """() => { const full = document.querySelector('.js-plotly-plot')._fullLayout;
  return [...full.xaxis.range, ...full.yaxis.range]; }"""
IDLE = "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"


def settle(page: Any) -> None:
    """Wait until Streamlit has nothing more to draw."""
    page.wait_for_function(IDLE)
    page.wait_for_timeout(250)
    page.wait_for_function(IDLE)


def open_page(page: Any, query: str, shown: str = ".js-plotly-plot") -> None:
    page.goto("/" + query)
    page.wait_for_selector(shown)
    settle(page)


def click(page: Any, trace: str, index: int = 0) -> None:
    x, y = page.evaluate(POINT, [trace, index])
    page.mouse.move(x, y)
    page.wait_for_timeout(150)
    page.mouse.click(x, y)


def test_a_click_on_a_point_shows_it_and_its_link_restores_it(page: Any) -> None:
    open_page(page, "")
    click(page, "front, confirmed", 1)
    page.get_by_role("button", name="Look closer").wait_for()
    page.wait_for_function("() => location.search.includes('pick=')")
    settle(page)
    link = page.url
    shown = page.locator("[data-testid=stMetricValue]").all_inner_texts()
    page.goto("about:blank")
    page.goto(link)
    page.get_by_role("button", name="Look closer").wait_for()
    settle(page)
    assert page.locator("[data-testid=stMetricValue]").all_inner_texts() == shown
    assert page.evaluate(DRAWN, "chosen")


def test_a_click_a_zoom_and_a_pause_while_trials_arrive(page: Any, root: Path) -> None:
    run = demo.make(root / "live", 12, finalists=0)
    run.update(state="running", launcher_pid=os.getpid())
    space, rng = SearchSpace.load("default"), np.random.default_rng(9)

    def arrive(depth: int) -> None:
        demo.add(run.study, space, PRESETS["t8"].replace(depths=(2, 2, depth, 2)), 1.5, rng)

    def trials() -> int:
        found = re.search(r"(\d+) complete", page.inner_text("body"))
        assert found
        return int(found[1])

    try:
        open_page(page, "?run=live")
        before = trials()
        page.get_by_role("button", name="Zoom to the front").click()
        page.wait_for_function("() => location.search.includes('window=')")
        settle(page)
        zoomed = page.evaluate(RANGE)
        click(page, "front", 0)
        page.wait_for_function("() => location.search.includes('pick=live')")
        arrive(5)
        page.wait_for_function(f"() => document.body.innerText.includes('{before + 1} complete')")
        settle(page)
        assert page.evaluate(DRAWN, "chosen")
        assert page.evaluate(RANGE) == pytest.approx(zoomed)
        assert "pick=live" in page.url
        page.get_by_text("Live: show new trials").click()
        page.get_by_text("Paused: every page").wait_for()
        settle(page)
        arrive(6)
        page.wait_for_timeout(3000)
        assert trials() == before + 1
        page.get_by_text("Live: show new trials").click()
        page.wait_for_function(f"() => document.body.innerText.includes('{before + 2} complete')")
    finally:
        page.goto("about:blank")
        shutil.rmtree(root / "live")


def test_a_box_zooms_and_everything_comes_back(page: Any) -> None:
    open_page(page, "?run=demo")
    whole = page.evaluate(RANGE)
    plot = page.locator(".js-plotly-plot").first
    plot.hover()
    plot.locator('.modebar-btn[data-title="Box Select"]').click()
    area = plot.locator(".nsewdrag").bounding_box()
    page.mouse.move(area["x"] + 80, area["y"] + 60)
    page.mouse.down()
    page.mouse.move(area["x"] + 300, area["y"] + 250, steps=6)
    page.mouse.up()
    page.wait_for_function("() => location.search.includes('window=')")
    settle(page)
    zoomed = page.evaluate(RANGE)
    assert zoomed[1] - zoomed[0] < 0.6 * (whole[1] - whole[0])
    page.get_by_role("button", name="Show everything").click()
    page.wait_for_function("() => !location.search.includes('window=')")
    settle(page)
    assert page.evaluate(RANGE) == pytest.approx(whole)


def test_back_leads_to_the_page_before(page: Any) -> None:
    open_page(page, "?run=demo")
    page.get_by_role("radio", name="Trials", exact=True).click()
    page.get_by_text("Why trials ended early").wait_for()
    page.wait_for_function("() => location.search.includes('page=trials')")
    settle(page)
    page.go_back()
    page.get_by_text("on the front of measured latency").first.wait_for()
    assert "page=trials" not in page.url


@pytest.mark.parametrize("page_name", PAGES)
def test_every_page_has_words_beside_its_charts_and_a_quiet_console(page: Any, page_name: str) -> None:
    open_page(page, f"?run=demo&page={page_name}&pick=demo:9&compare=demo:9&compare=t8", "[data-testid=stButton], h5")
    for chart in page.locator("[data-testid=stPlotlyChart]").all():
        assert len(chart.get_attribute("aria-label") or "") > 20
        assert chart.get_attribute("role") == "figure"
    for picture in page.locator("svg[viewBox]:has(> title)").all():
        assert len(picture.get_attribute("aria-label") or "") > 10
    assert page.locator("img:not([alt])").count() == 0


def test_comparing_from_the_front(page: Any) -> None:
    open_page(page, "?run=demo&compare=t8")
    click(page, "front, confirmed", 0)
    page.get_by_role("button", name="Compare", exact=True).last.click()
    page.wait_for_function("() => (location.search.match(/compare=/g) || []).length === 2")
    open_page(page, "?page=compare&" + page.url.partition("?")[2])
    assert page.locator("table th").filter(has_text="T8").count() >= 1
    assert "against T8" in page.inner_text("body")


def test_the_configurator_predicts_and_sends(page: Any, root: Path) -> None:
    run = demo.make(root / "sent", 14, finalists=0)
    try:
        open_page(page, "?run=sent&page=configuration&pick=t8")
        value = page.locator("[data-testid=stMetric]").filter(has_text=re.compile("(measured|predicted) latency")).first
        value.wait_for()
        page.get_by_text("One step away", exact=True).wait_for()
        settle(page)
        before = value.inner_text()
        box = page.get_by_role("combobox", name=re.compile("blocks, stage 3"))
        box.click()
        box.fill("9")
        page.get_by_role("option", name="9", exact=True).click()
        page.get_by_text("stage-3 depth 4 → 9").first.wait_for()
        settle(page)
        assert value.inner_text() != before
        assert "change=depths3%3A9" in page.url
        link, shown = page.url, value.inner_text()
        page.goto("about:blank")
        page.goto(link)
        page.get_by_text("stage-3 depth 4 → 9").first.wait_for()
        page.get_by_text("One step away", exact=True).wait_for()
        settle(page)
        value.wait_for()
        assert value.inner_text() == shown
        page.get_by_role("button", name="Send to the run").click()
        page.get_by_text("In the queue").first.wait_for()
        waiting = [t for t in Run.open(run.path).study.get_trials() if t.state.name == "WAITING"]
        assert [t.user_attrs["sent_by"] for t in waiting] == ["dashboard"]
        assert SearchSpace.load("default").decode(waiting[0].system_attrs["fixed_params"]).depths == (2, 2, 9, 2)
        open_page(page, "?run=sent")
        page.get_by_text("sent from here").first.wait_for()
    finally:
        page.goto("about:blank")
        shutil.rmtree(root / "sent")


def test_an_export_writes_its_folder_and_shows_it(page: Any, root: Path) -> None:
    open_page(page, "?run=demo&page=export&pick=demo:9", "[data-testid=stButton]")
    page.get_by_role("button", name="onnx", exact=True).first.click()  # timm alone: the quickest
    settle(page)
    page.get_by_role("button", name="Export", exact=True).last.click()
    page.get_by_text("was written in").wait_for(timeout=120_000)
    settle(page)
    made = root / "demo" / "exports" / "fastvit_trial9"
    assert (made / "model.safetensors").is_file()
    assert "local-dir:" in page.inner_text("body")
    said = page.inner_text("body")
    assert str(made) in said
    assert "Weights of fastvit_trial9: none: random initialisation" in said
    assert f"python search.py train {made} --data DIR" in said
    assert "exists and is never overwritten" not in said
    with page.expect_download() as found:
        page.get_by_role("button", name="Download as ZIP").click()
    with zipfile.ZipFile(found.value.path()) as archive:
        assert "fastvit_trial9/model.safetensors" in archive.namelist()


def test_dark_theme_follows_the_reader_not_the_runs(browser: Any, page: Any, address: str) -> None:
    def brightness(one: Any) -> int:
        colour = one.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(",")[:3])

    open_page(page, "?run=demo")
    assert brightness(page) > 600
    dark = browser.new_page(color_scheme="dark", base_url=address)
    open_page(dark, "?run=demo")
    assert brightness(dark) < 150
    dark.close()


FOCUS = """() => { const e = document.activeElement;
  return !['BUTTON', 'INPUT'].includes(e.tagName) ? '' :
    [e.getAttribute('aria-label'), e.innerText].filter(Boolean).join(' '); }"""


def tab_to(page: Any, words: str, key: str = "Tab") -> None:
    """Press `key` until the button or field that has the focus is called `words`, a regular expression."""
    for _ in range(250):
        page.keyboard.press(key)
        if re.search(words, page.evaluate(FOCUS), re.IGNORECASE):
            return
    pytest.fail(f"the keyboard does not reach {words!r}")


def test_the_whole_way_by_keyboard(page: Any) -> None:
    open_page(page, "?run=demo")
    tab_to(page, "Zoom to the front")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.search.includes('window=')")
    settle(page)
    tab_to(page, "Chosen configuration")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("() => location.search.includes('pick=')")
    settle(page)
    turn(page, "Trials")
    page.locator("[data-testid=stDataFrame]").first.wait_for()
    tab_to(page, "Download as CSV")  # into the grid, and
    tab_to(page, "Look closer")  # out of it again
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.search.includes('page=configuration')")
    settle(page)
    turn(page, "Export")
    page.get_by_text("Name of the variant").wait_for()


def turn(page: Any, there: str) -> None:
    """From page to page: Tab reaches one entry of the navigation, which are told by their icons; arrows go on."""
    tab_to(page, "show_chart|account_tree|table_rows")
    tab_to(page, there, "ArrowRight")
    page.keyboard.press("Space")
    settle(page)


def test_text_of_a_run_stays_text(page: Any) -> None:
    name = quote("hostile *run* <b>x")
    for page_name, shown in (("front", ".js-plotly-plot"), ("trials", "[data-testid=stDataFrame]"),
                             ("space", "h5"), ("export", "[data-testid=stButton]"),
                             ("configuration", "h5"), ("compare", "[data-testid=stButton]")):
        open_page(page, f"?run={name}&page={page_name}&pick=t8&compare={name}:1&compare={name}:2&find=bold"
                        "&show=failed&show=over_budget", shown)
        assert page.evaluate("() => window.hit") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.locator('a[href^="javascript"]').count() == 0
        assert page.locator("[data-testid=stMarkdownContainer] strong", has_text="bold").count() == 0
        assert page.locator(".katex").count() == 0
        assert page.locator("[data-testid=stException]").count() == 0
