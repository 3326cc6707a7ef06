"""The server's process: Streamlit's own command line, and beside it a thread that reads the run to be opened.

    python -P -m dashboard.server run dashboard/app.py ...

Without both the first reader waits for imports and for a journal of maybe a hundred megabytes. The imports come before
the thread: two threads that import the same modules for the first time may see half of one.
"""

from __future__ import annotations

import contextlib
import threading

import pandas as pd  # noqa: F401
import plotly.graph_objects as go  # noqa: F401
from streamlit.web import cli
from streamlit.web.server.starlette import starlette_websocket as websocket

from dashboard import session
from dashboard.figures.front import front_figure
from dashboard.load import snapshot
from dashboard.state import View, find_runs
from nas.errors import UsageError


def warm() -> None:
    """Read the run that opens first, and draw its front once."""
    runs = find_runs(session.root())
    with contextlib.suppress(UsageError):  # the page says what is wrong
        for name in session.first(runs):
            run = snapshot(runs[name])
            front_figure({name: run.frame}, View(), run.meta.budget_ms).to_json()


def same_origin_only() -> None:
    """Let only the dashboard's own pages open its websocket. Streamlit lets pages of any port of this machine do so,
    and every program here may serve one."""
    websocket.is_url_from_allowed_origins = lambda url: False


if __name__ == "__main__":
    same_origin_only()
    threading.Thread(target=warm, daemon=True, name="warm").start()
    cli.main(prog_name="streamlit")
