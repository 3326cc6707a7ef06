"""Importing ONNX Runtime leaves nothing in the user's cache."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_identity_and_no_events_are_kept(tmp_path: Path) -> None:
    code = ("import os; before = os.environ.get('XDG_CACHE_HOME'); "
            "from nas.onnx_runtime import onnxruntime as load; assert load().InferenceSession; "
            "assert load() is load(); assert os.environ.get('XDG_CACHE_HOME') == before")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT,
                   env=os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nobody_imports_it_otherwise() -> None:
    lines = [f"{path.name}: {line.strip()}" for path in (ROOT / "nas").rglob("*.py")
             for line in path.read_text().splitlines()
             if line.strip().startswith(("import onnxruntime", "from onnxruntime"))
             and path.name != "quantize.py"]  # its parts, after the module itself
    assert lines == []
