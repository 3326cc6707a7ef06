"""Who may import whom: the rooms in the order of DESIGN, lazy imports and those for types counted."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom up: a room imports from rows below its own and from itself. Rooms of one row do not know each other.
ORDER = (
    ("fastvit", "nas.errors", "nas.files", "nas.clock", "nas.memory", "nas.text", "nas.onnx_runtime"),
    ("space", "nas.recipe", "nas.quiet", "nas.versions", "nas.addresses"),
    ("nas.data", "nas.runs"),
    ("nas.proxy", "nas.latency"),
    ("nas.bench",),
    ("nas.estimate",),
    ("nas.search",),
    ("nas.report",),
    ("nas.export", "nas.workers"),
    ("nas.evaluate",),
    ("nas.train",),
    ("dashboard",),
    ("nas.commands",),
    ("search",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
ENTRIES = {"nas.bench.__main__"}  # a command line of its own; nobody imports it


def files() -> dict[str, Path]:
    found = {"search": ROOT / "search.py"}
    for top in ("fastvit", "space", "nas", "dashboard"):
        for path in (ROOT / top).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


MODULES = files()


def imported(path: Path) -> set[str]:
    """Modules of the project that a file names in an import, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {full if (full := f"{node.module}.{alias.name}") in MODULES else node.module
                      for alias in node.names}
    return found & set(MODULES)


IMPORTS = {module: imported(path) - {module} for module, path in MODULES.items()}


def room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "nas" else parts[0]


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in MODULES} - {"nas"} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(set(MODULES) - ENTRIES))
def test_imports_run_one_way(module: str) -> None:
    own = room(module)
    wrong = sorted(other for other in IMPORTS[module]
                   if room(other) != own and LEVEL[room(other)] >= LEVEL.get(own, len(ORDER)))
    assert not wrong, f"{module} is in {own}, which stands below or beside the rooms of {', '.join(wrong)}"


def test_no_circle() -> None:
    try:
        graphlib.TopologicalSorter(IMPORTS).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle: " + " -> ".join(error.args[1]))


def test_nobody_imports_an_entry() -> None:
    assert not [module for module, names in IMPORTS.items() if names & ENTRIES]


def test_a_circle_and_a_wrong_direction_would_be_seen() -> None:
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(IMPORTS | {"nas.errors": {"nas.commands.run"}}).prepare()
    assert LEVEL["nas.runs"] < LEVEL["nas.search"] < LEVEL["nas.workers"] < LEVEL["dashboard"]


COMPARED = re.compile(r"ci_(?:low|high)_ms[\w.()\"\'\] ]{0,25}(?:<|>)=? *(?:[\w.]*\.|front\[.)?budget"
                      r"|budget\w* *(?:<|>)=? *[\w.]*ci_")


def test_one_function_says_what_meets_a_budget() -> None:
    written = [name for name, path in MODULES.items() if name != "nas.runs.budget"
               and COMPARED.search(path.read_text(encoding="utf-8"))]
    assert not written, f"{', '.join(written)} compare an interval with a budget; nas.runs.budget has the rule"
    assert COMPARED.search("x.ci_high_ms <= budget_ms")
    assert COMPARED.search('a["ci_low_ms"] > front["budget_ms"]')
