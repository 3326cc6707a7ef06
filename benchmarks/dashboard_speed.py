"""How long a reader waits: the first view of a run and a click in it, in a real browser.

    python benchmarks/dashboard_speed.py [--trials 10000] [--root FOLDER]

A demo run is made (or taken from FOLDER), a server started and Chromium driven. Printed for each page: seconds from
opening the address in a new tab until the page has drawn and the script is idle; for the front also from a click on a
point until the choice is shown. Median of a few, the first (cold) one apart. Goals for 10,000 trials on 2 cores:
first view 2 s, click 0.5 s.
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


def view(browser: Any, address: str, page_name: str) -> tuple[float, Any]:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(120_000)
    begun = time.perf_counter()
    page.goto(f"{address}/?run=demo&page={page_name}&compare=t8&compare=sa12")
    page.wait_for_selector(SHOWN[page_name])
    if page_name == "front":
        page.wait_for_function(DRAWN)
    page.wait_for_function(IDLE)
    return time.perf_counter() - begun, page


def clicks(page: Any, count: int) -> list[float]:
    """Seconds from a click on a point of the front until its card and its ring are there."""
    found = []
    for _ in range(count):
        page.wait_for_timeout(500)
        before = page.evaluate("() => location.search")
        x, y = page.evaluate(POINT, "presets, measured here")
        page.mouse.move(x, y)
        page.wait_for_timeout(300)
        begun = time.perf_counter()
        page.mouse.click(x, y)
        try:
            page.wait_for_function("(before) => location.search !== before", arg=before, timeout=5000)
        except Exception:
            continue  # the same point twice
        page.wait_for_function("() => document.querySelector('.js-plotly-plot').data.some(t => t.name === 'chosen')")
        page.wait_for_function(IDLE)
        found.append(time.perf_counter() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--root", type=Path, help="keeps the demo run here, for the next time")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    root = args.root or Path(tempfile.mkdtemp(prefix="fastvit-explorer-"))
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "demo").exists():
        begun = time.perf_counter()
        demo.make(root / "demo", args.trials)
        print(f"demo run made in {time.perf_counter() - begun:.0f} s")
    size = (root / "demo" / "journal.log").stat().st_size / 1e6
    begun = time.perf_counter()
    count = len(Reader(root / "demo").read().frame)
    print(f"{count} trials, journal of {size:.0f} MB, read in {time.perf_counter() - begun:.2f} s")
    with sync_playwright() as playwright, serving(root, "demo") as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        print(f"{'page':<15}{'cold s':>8}{'warm s':>8}")
        for page_name in PAGES:
            times = []
            for _ in range(1 + args.repeats):
                seconds, page = view(browser, address, page_name)
                times.append(seconds)
                if page_name == "front" and len(times) == 1 + args.repeats:
                    waits = clicks(page, 2 * args.repeats)
                page.close()
            print(f"{page_name:<15}{times[0]:>8.2f}{statistics.median(times[1:]):>8.2f}")
        print(f"click on the front: median {statistics.median(waits):.2f} s of {len(waits)}, "
              f"worst {max(waits):.2f} s")
        browser.close()
    if args.root is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
