"""A cache of its own for every test."""

import json
from pathlib import Path

import pytest

from fastvit import FastViTConfig
from nas.latency import measurer, service, warm


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny() -> FastViTConfig:
    return FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 8, 16, 32), mlp_ratios=(1, 1, 1, 1),
                         mixers=("repmixer", "repmixer", "repmixer", "attention"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests answered in this process: importing torch again for each test would take most of the time."""
    def ask(request: dict, time_limit_s: float) -> list[dict]:
        return [found.to_dict() for found in measurer.measure_here(json.loads(json.dumps(request)), lambda stage: None)]

    monkeypatch.setattr(service.MEASURING, "ask", ask)
    monkeypatch.setattr(warm, "MEASURE_S", 0.1)
    monkeypatch.setattr(warm, "REFERENCE_S", 0.02)
    # A machine that runs other tests is busy; what was measured then is not kept, and tests of the cache would find
    # nothing.
    monkeypatch.setattr(measurer, "BUSY", 2.0)
