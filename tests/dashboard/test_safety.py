"""Safe by default: this machine only, no foreign host, nothing outside of the runs' root, text as text."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.load import Reader
from dashboard.process import command, home
from dashboard.state import find_runs
from dashboard.text import plain

PROJECT = Path(__file__).parents[2]


def answer(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a GET whose path is sent as it is."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    found = connection.getresponse()
    body = found.read() if found.status != 101 else b""
    connection.close()
    return found.status, body


@pytest.mark.parametrize(("host", "origin", "status"), [
    ("", "", 101), ("evil.example", "", 403), ("evil.example", "http://evil.example", 403),
    ("", "http://evil.example", 403)])
def test_only_this_machine_s_names_open_a_session(address: str, host: str, origin: str, status: int) -> None:
    here = address.removeprefix("http://")
    headers = {"Host": host or here, "Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
               "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="} | ({"Origin": origin} if origin else {})
    assert answer(address, "/_stcore/stream", **headers)[0] == status


def test_the_server_is_not_on_the_network(address: str) -> None:
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only asks which address this machine would use
            outward = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but its own")
    if outward.startswith("127."):
        pytest.skip("this machine has no address but its own")
    with socket.socket() as probe:
        probe.settimeout(5)
        assert probe.connect_ex((outward, port)) != 0


@pytest.mark.parametrize("path", [
    "/../../../../etc/passwd", "/media/../../../../etc/passwd", "/media/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/app/static/../run.json", "/app/static/demo/run.json", "/demo/run.json", "/component/../demo/run.json",
    "/_stcore/../demo/journal.log", "//etc/passwd", "/static/%2e%2e%2f%2e%2e%2fapp.py"])
def test_no_path_leads_to_a_file(address: str, path: str) -> None:
    _, body = answer(address, path)
    assert b"root:" not in body
    assert b'"schema"' not in body
    assert b"op_code" not in body
    assert b"def main" not in body


def test_links_out_of_a_run_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    (outside / "run.json").write_text('{"schema": 1, "secret": 1}')
    (outside / "journal.log").write_text("secret\n")
    for name, file in (("meta", "run.json"), ("journal", "journal.log")):
        (root / name).mkdir(parents=True)
        (root / name / "run.json").write_text('{"schema": 1}')
        (root / name / file).unlink(missing_ok=True)
        (root / name / file).symlink_to(outside / file)
    assert find_runs(root) == {}


def test_settings_beside_the_runs_are_not_read(root: Path) -> None:
    assert (root / ".streamlit" / "config.toml").is_file()
    assert home() == PROJECT / "dashboard"
    assert not (home() / ".streamlit").exists()
    assert "-P" in command(1, browser=False)


def test_hostile_records_are_failed_trials(root: Path) -> None:
    frame = Reader(root / "hostile *run* <b>x").read().frame
    broken = frame[frame.reason == "what was recorded of this trial cannot be read"]
    assert len(broken) == 4
    assert set(broken.outcome) == {"failed"}


@pytest.mark.parametrize("text", ["<b>x</b>", "**x**", "[a](http://b)", "![a](b)", "$x$", ":red[x]", "`x`", "# x",
                                  "a | b", "~~x~~", "&lt;", "a\n# b"])
def test_markdown_reads_it_as_text(text: str) -> None:
    safe = plain(text)
    assert "\n" not in safe
    for at, character in enumerate(safe):
        if character in "<>*[]()!$:`#|~&":
            assert safe[at - 1] == "\\"


def test_no_torch_and_no_timm_in_the_dashboard(root: Path) -> None:
    code = ("import sys, pathlib, dashboard.server, dashboard.importance, dashboard.exporting\n"
            "from dashboard.views import compare, configuration, export, front, space, trials, what_if\n"
            "from dashboard.load import Reader\n"
            "from nas.estimate.forecast import Forecast\n"
            "export.lacking.__wrapped__()\n"
            f"run = Reader(pathlib.Path({str(root / 'demo')!r})).read()\n"
            "assert Forecast.fit(run.meta, run.records).score.ready\n"
            "sys.exit(len({'torch', 'timm', 'coremltools', 'onnxruntime'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT).returncode == 0


@pytest.mark.parametrize(("origin", "status"), [
    ("http://{own}", 101), ("http://127.0.0.1:9999", 403), ("http://localhost:9999", 403), ("https://{own}.evil", 403),
    ("http://evil.example", 403), ("http://localhost", 403), ("null", 403)])
def test_only_its_own_pages_open_the_websocket(address: str, origin: str, status: int) -> None:
    own = address.removeprefix("http://")
    found, _ = answer(address, "/_stcore/stream", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13",
                      Sec_WebSocket_Key="MDEyMzQ1Njc4OTAxMjM0NQ==", Origin=origin.format(own=own))
    assert found == status
