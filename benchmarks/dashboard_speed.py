"""How long a reader waits: the first view of a run and a click in it, in a real browser.

    python benchmarks/dashboard_speed.py [--trials 10000] [--root FOLDER] [--pages front,trials]

A demo run is made (or taken from FOLDER), a server started and Chromium driven. Printed for each page: seconds from
opening the address in a new tab until the page has drawn and the script is idle; for the front also from a click on a
point until the choice is shown, for a configuration from a change under What if until its prediction is shown. Beside
the wall time stand the seconds of CPU that the server and the browser took, which other work on the machine does not
change. Three kinds of visit, medians but for the first:

    first   the server has just begun to answer, and the browser has never seen it
    new     a browser that has never seen the dashboard loads and compiles all of its code
    again   a browser that was here before has the code, as a reader's own has from the second visit on

The nulls are pages of Streamlit alone: a line of text, and the same with a chart of three points. What they cost is the
floor of every page. Goals for 10,000 trials on 2 cores: first view 2 s, click and change 0.5 s.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboard import demo
from dashboard.load import Reader
from dashboard.serve import serving
from dashboard.state import PAGES

IDLE = "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
DRAWN = "() => document.querySelector('.js-plotly-plot')?._fullData?.length > 0"
POINT = """(name) => {
  const plot = document.querySelector('.js-plotly-plot'), at = plot.getBoundingClientRect(), full = plot._fullLayout;
  const trace = plot._fullData.find(t => t.name === name), i = Math.floor(Math.random() * trace.x.length);
  return [at.left + full.xaxis._offset + full.xaxis.d2p(trace.x[i]),
          at.top + full.yaxis._offset + full.yaxis.d2p(trace.y[i])];
}"""
SHOWN = {"front": ".js-plotly-plot", "configuration": "text=One step away", "compare": "table",
         "space": "text=How much", "trials": "[data-testid=stDataFrame]", "export": "text=Name of the variant"}
SIZE: Any = {"width": 1440, "height": 1000}
WARMING = 2  # visits until a browser has compiled and kept the code
NULLS = {"text alone": ("st.write('hello')", "text=hello"),
         "chart of three points": ("import plotly.graph_objects as go\n"
                                   "st.plotly_chart(go.Figure(go.Scatter(x=[1, 2, 3], y=[1, 2, 3])))",
                                   ".js-plotly-plot .point")}


class Clock:
    """Wall time, and the CPU time of the server and of the browser, since it was made."""

    def __init__(self) -> None:
        self.begun, self.cpu = time.perf_counter(), self._cpu()

    @staticmethod
    def _cpu() -> dict[tuple[str, int], float]:
        import psutil

        found = {}
        for process in psutil.Process().children(recursive=True):
            try:
                kind = "server" if process.name().startswith("python") else "browser"
                found[kind, process.pid] = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        return found

    def read(self) -> tuple[float, float, float]:
        spent = {"server": 0.0, "browser": 0.0}
        for (kind, pid), seconds in self._cpu().items():  # of what ended since, nothing counts
            spent[kind] += seconds - self.cpu.get((kind, pid), 0.0)
        return time.perf_counter() - self.begun, spent["server"], spent["browser"]


def median(rows: list[tuple[float, float, float]]) -> tuple[float, ...]:
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))


def show(what: str, figures: tuple[float, ...]) -> None:
    wall, server, browser = figures
    print(f"{what:<32}{wall:>8.2f}{server:>14.2f}{browser:>14.2f}", flush=True)


def visit(context: Any, address: str, shown: str, *, chart: bool) -> tuple[tuple[float, float, float], Any]:
    page = context.new_page()
    page.set_default_timeout(120_000)
    clock = Clock()
    page.goto(address)
    page.wait_for_selector(shown)
    if chart:
        page.wait_for_function(DRAWN)
    page.wait_for_function(IDLE)
    return clock.read(), page


def visits(browser: Any, known: Any, what: str, address: str, shown: str, repeats: int, *, chart: bool = False) -> Any:
    """Print how long it takes in new browsers and in one that knows the place; the last page, still open."""
    rows = []
    for _ in range(1 + repeats):
        context = browser.new_context(viewport=SIZE)
        rows.append(visit(context, address, shown, chart=chart)[0])
        context.close()
    show(f"{what}, first", rows[0])
    show(f"{what}, new", median(rows[1:]))
    rows = []
    for _ in range(WARMING + repeats):
        figures, page = visit(known, address, shown, chart=chart)
        rows.append(figures)
        if len(rows) < WARMING + repeats:
            page.close()
    show(f"{what}, again", median(rows[WARMING:]))
    return page


def clicks(page: Any, count: int) -> list[tuple[float, float, float]]:
    """Seconds from a click on a point of the front until its card and its ring are there."""
    found = []
    for _ in range(count):
        page.wait_for_timeout(500)
        before = page.evaluate("() => location.search")
        x, y = page.evaluate(POINT, "presets, measured here")
        page.mouse.move(x, y)
        page.wait_for_timeout(300)
        clock = Clock()
        page.mouse.click(x, y)
        try:
            page.wait_for_function("(before) => location.search !== before", arg=before, timeout=5000)
        except Exception:
            continue  # the same point twice
        page.wait_for_function("() => document.querySelector('.js-plotly-plot').data.some(t => t.name === 'chosen')")
        page.wait_for_function(IDLE)
        found.append(clock.read())
    return found


def changes(page: Any, count: int) -> list[tuple[float, float, float]]:
    """Seconds from a choice under What if until its prediction is there and the script is idle."""
    found = []
    for index in range(count):
        page.wait_for_timeout(500)
        before = page.evaluate("() => location.search")
        box = page.get_by_role("combobox", name="blocks, stage 3").first
        box.click()
        page.keyboard.press("ArrowDown" if index % 2 == 0 else "ArrowUp")
        page.wait_for_timeout(300)
        clock = Clock()
        page.keyboard.press("Enter")
        page.wait_for_function("(before) => location.search !== before", arg=before)
        page.wait_for_function(IDLE)
        found.append(clock.read())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--root", type=Path, help="keeps the demo run here, for the next time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pages", default=",".join(PAGES), help="which pages (default: all)")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="fastvit-explorer-") as folder, sync_playwright() as playwright:
        root = args.root or Path(folder) / "runs"
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "demo").exists():
            begun = time.perf_counter()
            demo.make(root / "demo", args.trials)
            print(f"demo run made in {time.perf_counter() - begun:.0f} s")
        size = (root / "demo" / "journal.log").stat().st_size / 1e6
        begun = time.process_time()
        count = len(Reader(root / "demo").read().frame)
        print(f"{count} trials, journal of {size:.0f} MB, read in {time.process_time() - begun:.2f} s of CPU")
        chromium: dict[str, Any] = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**chromium)
        known = playwright.chromium.launch_persistent_context(f"{folder}/profile", viewport=SIZE, **chromium)
        print(f"{'':<32}{'wall s':>8}{'server CPU s':>14}{'browser CPU s':>14}")
        for name, (code, shown) in NULLS.items():
            app = Path(folder) / f"{name.split()[0]}.py"
            app.write_text("import streamlit as st\nst.set_page_config(layout='wide')\n" + code)
            with serving(root, app=app) as address:
                visits(browser, known, f"null: {name}", address, shown, args.repeats).close()
        with serving(root, "demo") as address:
            for page_name in args.pages.split(","):
                query = f"?run=demo&page={page_name}&compare=t8&compare=sa12"
                page = visits(browser, known, page_name, f"{address}/{query}", SHOWN[page_name], args.repeats,
                              chart=page_name == "front")
                if page_name == "front":
                    waits = clicks(page, 3 * args.repeats)
                    show(f"click, median of {len(waits)}", median(waits))
                if page_name == "configuration":
                    waits = changes(page, 3 * args.repeats)
                    show(f"What if, median of {len(waits)}", median(waits))
                page.close()
        known.close()
        browser.close()


if __name__ == "__main__":
    main()
