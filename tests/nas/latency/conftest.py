"""A cache of its own for every test."""

from pathlib import Path

import pytest

from fastvit import FastViTConfig


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTVIT_EXPLORER_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny() -> FastViTConfig:
    return FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 8, 16, 32), mlp_ratios=(1, 1, 1, 1),
                         mixers=("repmixer", "repmixer", "repmixer", "attention"))
