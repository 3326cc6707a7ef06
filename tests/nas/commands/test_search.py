"""The main job from the command line, small: real latency, real training, a real journal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TINY = """
name = "tiny"
depths = [[1, 2], [1], [1], [1]]
widths = [[16, 24], [32], [48, 64], [96]]
mlp_ratios = [1, 2]
mixers = [["repmixer"], ["repmixer"], ["repmixer"], ["repmixer", "attention"]]
"""

# Real networks are converted, measured and trained: minutes where many processes share the cores.
pytestmark = pytest.mark.timeout(600)


def search(*words: str | Path, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "search.py"), *map(str, words)], capture_output=True, text=True,
                          timeout=timeout, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "tiny.toml").write_text(TINY)
    done = search("--budgets", "0.3,0.5", "--data", "digits", "--resolution", "32", "--space", folder / "tiny.toml",
                  "--trials", "3", "--steps", "4", "--run", folder / "run", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    front = json.loads(done.stdout)
    assert front["points"]
    assert "with 3 seeds each" in front["movement"]
    assert front["budgets"] == [0.3, 0.5]
    assert front["budget_ms"] == 0.5
    assert "0.5 ms: 100 % of 2,000 random configurations" in done.stderr
    return folder / "run"


def test_front_is_written_and_read_back(run: Path) -> None:
    front = json.loads(search("front", run, "--json").stdout)
    assert {anchor["preset"] for anchor in front["anchors"]} == {"t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36"}
    for point in front["points"]:
        assert point["ci_low_ms"] <= point["latency_ms"] <= point["ci_high_ms"] <= 0.5
        assert point["confirmed"]
        assert point["score_from"] == "confirmed"
    assert search("front", run, "--csv").stdout.count("\n") == len(front["points"]) + 1
    assert (run / "front.csv").is_file()
    assert "plotly" in (run / "front.html").read_text()


def test_status_counts(run: Path) -> None:
    status = json.loads(search("status", run, "--json").stdout)
    assert status["state"] == "finished"
    assert status["trials"]["running"] == 0
    assert status["trials"]["complete"] >= 3


def test_resume_goes_on_where_a_crash_cut_the_journal(run: Path) -> None:
    before = json.loads(search("status", run, "--json").stdout)["trials"]["complete"]
    with (run / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 8, "trial')
    done = search("resume", run, "--trials", "1", "--workers", "1", "--confirm", "0")
    assert done.returncode == 0, done.stderr
    assert "half-written" in done.stderr
    assert json.loads(search("status", run, "--json").stdout)["trials"]["complete"] == before + 1


def test_nothing_under_the_budget_says_so(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    done = search("--budget-ms", "0.0001", "--data", "digits", "--resolution", "32", "--space", tmp_path / "tiny.toml",
                  "--trials", "2", "--steps", "1", "--run", tmp_path / "run", "--workers", "1")
    assert done.returncode == 3, done.stderr
    assert "nearest miss" in done.stderr


@pytest.mark.parametrize(("words", "said"), [
    (["--budget-ms", "0"], "above 0"), (["--budget-ms", "-1"], "above 0"), (["--budget-ms", "nan"], "above 0"),
    (["--budget-ms", "2", "--data", "/nowhere"], "no such folder"), (["--budget-ms", "two"], "two"),
    (["--budget-ms", "2", "--space", "defautl"], "did you mean default"), (["front", "/nowhere"], "is no run"),
    (["--budgets", "1,x"], "such as 1,2,4"), (["--budgets", "1,2", "--budget-ms", "2"], "one of them"),
    (["--trials", "5"], "--budget-ms is missing"), (["--budget-ms", "2", "--device", "abacus"], "abacus"),
    (["status", "."], "is no run"), (["--budget-ms", "2", "--trials", "0"], "at least 1"),
])
def test_bad_words_are_one_sentence(words: list[str], said: str) -> None:
    done = search(*words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_needs_nothing_heavy() -> None:
    code = ("import sys, search; search.build_parser();"
            "print(sorted(m for m in ('torch', 'optuna', 'pandas', 'numpy', 'timm', 'streamlit') if m in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
