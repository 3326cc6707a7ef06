"""A demo run below a root of its own, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import demo

BUDGET_MS = 1.5


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `demo` and `other`, which may share axes, and `elsewhere`, which may not."""
    folder = tmp_path_factory.mktemp("runs")
    demo.make(folder / "elsewhere", 3, seed=3).update(device="another", state="finished")
    demo.make(folder / "other", 12, seed=2)
    demo.make(folder / "demo", 40, budget_ms=BUDGET_MS)
    return folder
