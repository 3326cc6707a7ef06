"""Pictures of every page of the dashboard into docs/images/, by a real browser.

    python benchmarks/dashboard_screenshots.py [--root RUNS --run NAME] [--to FOLDER] [--pictures front,space]

Without --root a demo run is made; its pages say that they are a demonstration.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboard import demo
from dashboard.load import Reader
from dashboard.serve import serving
from nas.report.recommendation import recommend

HOME = Path(__file__).parents[1]
IDLE = "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
WIDTH, HEIGHT, PHONE = 1400, 1000, 390
# File: page, further query, height of the picture (None: the whole page up to MOST), dark.
SHOTS = {
    "front": ("front", "&show=over_budget&show=stopped_early", HEIGHT, False),
    "front-dark": ("front", "&show=over_budget&show=stopped_early", HEIGHT, True),
    "configuration": ("configuration", "", 1500, False),
    "compare": ("compare", "", 1100, False),
    "space": ("space", "&target=equal", None, False),
    "trials": ("trials", "", HEIGHT, False),
    "export": ("export", "", None, False),
    "phone": ("front", "", 844, False),
}
MOST, LARGEST = 1600, 300_000


def shoot(page: Any, address: str, height: int | None, width: int) -> bytes:
    page.goto(address)
    page.wait_for_selector("h4, h5, [data-testid=stButton]")
    for _ in range(3):
        page.wait_for_timeout(600)
        page.wait_for_function(IDLE)
    if height is None:
        height = min(MOST, page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight"))
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(1200)
    return bytes(page.screenshot())


def small(png: bytes) -> bytes:
    """The picture with 256 colours, which a page of flat colours does not miss."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--run", default="demo")
    parser.add_argument("--pictures", default=",".join(SHOTS), help="which of them (default: all)")
    parser.add_argument("--to", type=Path, default=HOME / "docs" / "images")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        root = args.root or Path(folder)
        if args.root is None:
            demo.make(root / "demo", 150)
        run = Reader(root / args.run).read()
        found = recommend(run.records, run.meta.budget_ms, resolution=run.meta.resolution)
        front = [f"{args.run}:{found.pick.trial}"] if found else []
        pick = front[0] if front else "t8"
        if args.root is None:
            subprocess.run([sys.executable, str(HOME / "search.py"), "export", str(run.path), "--trial",
                            pick.rpartition(":")[2], "--name", "fastvit_mine", "--to", str(run.path / "exports")],
                           check=True)
        query = f"?run={quote(args.run)}&pick={quote(pick)}&compare={quote(pick)}&compare=t8&compare=sa12"
        args.to.mkdir(parents=True, exist_ok=True)
        with serving(root, args.run) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for name in args.pictures.split(","):
                page_name, further, height, dark = SHOTS[name]
                width = PHONE if name == "phone" else WIDTH
                page = browser.new_page(viewport={"width": width, "height": HEIGHT},
                                        color_scheme="dark" if dark else "light")
                page.set_default_timeout(120_000)
                picture = small(shoot(page, f"{address}/{query}&page={page_name}{further}", height, width))
                page.close()
                (args.to / f"{name}.png").write_bytes(picture)
                print(f"{name}.png: {len(picture) / 1000:.0f} kB"
                      + (", too large" if len(picture) > LARGEST else ""))
            browser.close()


if __name__ == "__main__":
    main()
