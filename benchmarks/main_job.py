"""The default job as a user meets it: seconds to the first points and to the end, and what it found.

    python benchmarks/main_job.py [--budget-ms 2] [--run DIR] [--picture docs/images/front.png]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def picture(page: Path, to: Path) -> None:
    """A screenshot of the run's front.html, in Chromium."""
    from playwright.sync_api import sync_playwright

    to.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1100, "height": 560})
        view.goto(page.resolve().as_uri())
        view.wait_for_selector(".main-svg")
        view.screenshot(path=to)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-ms", default="2")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    path = args.run or Path(tempfile.mkdtemp()) / "run"
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(ROOT / "search.py"), "--budget-ms", args.budget_ms, "--run", path,
                                "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    assert process.stdout is not None
    firsts: dict[str, float] = {}
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        under = re.search(r"(T8|trial \d+|SA?\d\d|T12|MA36) +[\d.]+ ms score", line)
        if under:
            what = "trial" if under[1].startswith("trial") else "anchor"
            firsts.setdefault(what, time.perf_counter() - begun)
    front = json.loads(process.stdout.read())
    process.wait()
    ended = time.perf_counter() - begun
    status = json.loads(subprocess.run([sys.executable, str(ROOT / "search.py"), "status", path, "--json"], text=True,
                                       capture_output=True, cwd=ROOT, check=True).stdout)
    print(f"first scored anchor after {firsts.get('anchor', float('nan')):.0f} s, first new configuration after "
          f"{firsts.get('trial', float('nan')):.0f} s, end after {ended:.0f} s (exit code {process.returncode}); "
          f"trials {status['trials']}; {len(front['points'])} points under {front['budget_ms']:g} ms")
    if args.picture:
        picture(path / "front.html", args.picture)


if __name__ == "__main__":
    main()
