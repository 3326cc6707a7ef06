"""Any change of any value in a run's files: the run is read, shown as damaged, or refused in one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import demo
from dashboard.load import Reader, reader
from dashboard.state import PAGES, ROOT, RUN
from nas.errors import UsageError
from search import main

APP = Path(dashboard.__file__).parent / "app.py"
ODD = [None, True, -1, 0, 1e308, -1e308, 10**400, float("nan"), float("inf"), "", "x", "[bold]x[/bold][", "\x1b[2J",
       "9" * 3000, [], {}, [[]], [None], {"": {}}, [1, "a", None], ["complete"] * 1000]
COMMANDS = (["status"], ["status", "--json"], ["front"], ["front", "--json"], ["front", "--csv"],
            ["front", "--long-run"], ["export-run", "--to", "FILE.csv"], ["report"])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON document, the document itself first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value in one place; REMOVED takes it out."""
    if not path:
        return None if value is REMOVED else value
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


REMOVED = object()
MADE: dict[str, Any] = {}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = demo.make(tmp_path_factory.mktemp("base") / "run", 4).path
    MADE["run.json"] = json.loads((path / "run.json").read_text())
    MADE["journal.log"] = [json.loads(line) for line in (path / "journal.log").read_text().splitlines()]
    return path


def mutate(base: Path, to: Path, draw: st.DataObject) -> Path:
    """A copy of the run with one or two values changed."""
    run = to / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(base, run)
    values, log = MADE["run.json"], list(MADE["journal.log"])
    for _ in range(draw.draw(st.integers(1, 2))):
        odd = draw.draw(st.sampled_from([REMOVED, *ODD]))
        if draw.draw(st.booleans()):
            values = changed(values, draw.draw(st.sampled_from(list(places(values)))), odd)
        else:
            # Whatever the line: studies, parameters, records, ends.
            number = draw.draw(st.integers(0, len(log) - 1))
            log[number] = changed(log[number], draw.draw(st.sampled_from(list(places(log[number])))), odd)
    (run / "run.json").write_text(json.dumps(values))
    (run / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in log))
    return run


def no_constant(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def check_commands(run: Path) -> None:
    for name, *words in COMMANDS:
        out, err = io.StringIO(), io.StringIO()
        words = [str(run.parent / word) if word == "FILE.csv" else word for word in words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([name, str(run), *words])
        said = err.getvalue()
        assert code in (0, 1, 2, 3), (name, code)
        assert "unexpected" not in said, (name, words, said)
        assert "\x1b[2J" not in said + out.getvalue()
        if "--json" in words and code in (0, 3):
            json.loads(out.getvalue(), parse_constant=no_constant)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_command_reads_it_or_says_why(base: Path, tmp_path_factory: pytest.TempPathFactory,
                                            data: st.DataObject) -> None:
    run = mutate(base, tmp_path_factory.mktemp("mutated"), data)
    check_commands(run)
    with contextlib.suppress(UsageError):
        Reader(run).read()


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.timeout(600)
def test_every_page_draws_it_or_says_why(base: Path, tmp_path_factory: pytest.TempPathFactory,
                                         data: st.DataObject) -> None:
    run = mutate(base, tmp_path_factory.mktemp("pages"), data)
    draw_pages(run)


def draw_pages(run: Path) -> None:
    reader.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT, str(run.parent))
        patch.setenv(RUN, run.name)
        for page in PAGES:
            app = AppTest.from_file(str(APP), default_timeout=60)
            app.query_params["page"] = page
            app.run()
            assert not app.exception, (page, [e.value for e in app.exception])


CORPUS = Path(__file__).parent / "corpus.jsonl"


@pytest.mark.parametrize("case", CORPUS.read_text().splitlines() if CORPUS.exists() else [],
                         ids=lambda line: json.loads(line)["name"])
def test_what_was_found_before(base: Path, tmp_path: Path, case: str) -> None:
    """corpus.jsonl: each line is a change that broke a command or a page once; what is found anew is added."""
    asked = json.loads(case)
    run = tmp_path / "run"
    shutil.copytree(base, run)
    if asked["file"] == "run.json":
        document = changed(MADE["run.json"], tuple(asked["path"]), asked["value"])
        (run / "run.json").write_text(json.dumps(document))
    else:
        log = list(MADE["journal.log"])
        numbers = [n for n, line in enumerate(log) if line.get("op_code") == asked["op_code"]]
        for number in numbers[-1:]:
            with contextlib.suppress(KeyError, IndexError, TypeError):
                log[number] = changed(log[number], tuple(asked["path"]), asked["value"])
        (run / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in log))
    check_commands(run)
    with contextlib.suppress(UsageError):
        Reader(run).read()
    if asked.get("pages"):
        draw_pages(run)
