"""The command line and the environment of the dashboard's server process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dashboard.state import ROOT, RUN

ADDRESS = "127.0.0.1"


def command(port: int, *, browser: bool, app: Path | None = None) -> list[str]:
    """Streamlit on this machine only, with its protections on whatever a config.toml says. Another `app` than the
    dashboard's is served by Streamlit alone."""
    flags = {
        "server.address": ADDRESS, "server.port": port, "server.headless": not browser,
        "server.enableXsrfProtection": True, "server.enableCORS": True, "server.fileWatcherType": "none",
        "server.maxUploadSize": 1, "browser.gatherUsageStats": False, "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none", "theme.light.primaryColor": "#0072B2", "theme.dark.primaryColor": "#56B4E9",
    }
    # -P: no module is ever imported from the folder of the runs.
    return [sys.executable, "-P", "-m", "streamlit" if app else "dashboard.server",
            "run", str(app or Path(__file__).parent / "app.py"),
            *(f"--server.allowedHosts={host}" for host in ("localhost", ADDRESS)),
            *(f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items())]


def home() -> Path:
    """Where the server runs: Streamlit reads settings from its working directory, and runs may come from anywhere."""
    return Path(__file__).parent


def environment(root: Path, name: str) -> dict[str, str]:
    """The process finds the project's packages from any folder, installed or not."""
    home = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    return os.environ | {ROOT: str(root), RUN: name, "PYTHONPATH": path}
