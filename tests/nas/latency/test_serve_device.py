"""A device behind an address: a real server on loopback, its refusals, and connections that are lost."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from fastvit import FastViTConfig
from nas.addresses import TOKEN, name_device
from nas.errors import Failure, NotAvailable, UsageError
from nas.latency import check_device, device_client, measure, measure_many, service
from nas.latency.calibration import calibrate
from nas.latency.devices import runtime
from nas.latency.predictor import Predictor
from nas.latency.runtime import Setting
from search import main

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
ROOT = Path(__file__).parents[3]
SECRET = "a secret of a reasonable length"


class Served:
    """create_app() behind uvicorn in a thread."""

    def __init__(self, **arguments: object) -> None:
        from nas.latency.device_server import create_app
        from nas.latency.http_server import server

        self.app = create_app("onnxruntime", **arguments)
        self.desk = self.app.state.desk
        self.server = server(self.app, log_level="error")
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(autouse=True)
def forget() -> None:
    device_client._described.cache_clear()


@pytest.fixture
def served(quick: None) -> Iterator[Served]:
    one = Served(hosts=("127.0.0.1", "localhost"))
    yield one
    one.stop()


def demand(tiny: FastViTConfig, **changes: object) -> dict:
    return {"id": "0" * 32, "targets": [tiny.to_dict()], "resolution": 32} | changes


def test_measured_over_there_and_named_here(tiny: FastViTConfig, served: Served) -> None:
    check_device(served.url + "/")
    wide = tiny.replace(widths=(16, 16, 32, 64))
    found = measure_many([tiny, wide], served.url, resolution=32, names=["tiny", "wide"])
    assert [one.name for one in found] == ["tiny", "wide"]
    assert found[0].config_key == tiny.key()
    assert found[0].device == served.url
    assert found[0].origin == "measured"
    assert "onnxruntime at http" in found[0].runtime
    assert measure(tiny, served.url, resolution=32).latency_ms == found[0].latency_ms  # from the cache over there
    assert measure(tiny, served.url, resolution=32, fresh=True).latency_ms != found[0].latency_ms
    health = httpx.get(served.url + "/health").json()
    assert (health["status"], health["device"], health["waiting"], health["measured"]) == ("ok", "onnxruntime", 0, 4)


def test_the_whole_command_and_calibration_over_a_connection(
        tiny: FastViTConfig, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.json").write_text(tiny.to_json())
    assert main(["measure", str(tmp_path / "tiny.json"), "--device", served.url, "--resolution", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["device"] == served.url
    assert calibrate(served.url, Setting(32), seconds=4).predictor.ready
    assert Predictor.load_or_none(served.url, resolution=32).ready
    assert Predictor.load_or_none("onnxruntime", resolution=32) is None


def test_errors_over_there_keep_their_kind(tiny: FastViTConfig, served: Served,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="precision fp8"):
        measure(tiny, served.url, resolution=32, precision="fp8")
    with pytest.raises(UsageError, match="no model of that name"):
        measure("timm:levit_25", served.url, resolution=32)

    def crash(request: dict, time_limit_s: float) -> list[dict]:
        raise Failure("the measuring process ended while measuring (signal 11)")

    monkeypatch.setattr(service.MEASURING, "ask", crash)
    with pytest.raises(Failure, match="signal 11"):
        measure(tiny, served.url, resolution=32, fresh=True)
    with pytest.raises(UsageError, match="another serve-device"):
        runtime(served.url).prepare(None, Setting())


def test_a_token_guards_all_but_health(tiny: FastViTConfig, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Served(token=SECRET)
    name_device(one.url)
    try:
        for given in (None, "wrong"):
            if given:
                monkeypatch.setenv(TOKEN, given)
            with pytest.raises(UsageError, match=TOKEN):
                check_device(one.url)
            assert httpx.post(one.url + "/jobs", json=demand(tiny)).status_code == 401
            assert httpx.get(one.url + "/jobs/" + "0" * 32).status_code == 401
        assert httpx.get(one.url + "/health").json()["status"] == "ok"
        monkeypatch.setenv(TOKEN, SECRET)
        assert measure(tiny, one.url, resolution=32).latency_ms > 0
    finally:
        one.stop()


@pytest.mark.parametrize(("given", "status"), [
    ("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:8765", 200), ("[::1]", 200), ("LOCALHOST:1", 200),
    ("evil.example", 400), ("[::1].evil.example", 400), ("127.0.0.1.evil.example", 400), ("[fe80::1]", 400),
    ("localhost@evil.example", 400), ("[", 400), ("", 400), ("evil.example:8765", 400)])
def test_only_this_machine_is_answered_under_its_own_names(given: str, status: int, quick: None) -> None:
    from nas.latency.device_server import LOOPBACK

    one = Served(hosts=LOOPBACK)
    try:
        assert httpx.get(one.url + "/health", headers={"host": given}).status_code == status
    finally:
        one.stop()


def test_connections_that_send_half_a_request_are_closed(quick: None, monkeypatch: pytest.MonkeyPatch,
                                                         tiny: FastViTConfig) -> None:
    from nas.latency import device_server, http_server

    monkeypatch.setattr(http_server, "SLOWEST_S", 0.5)
    monkeypatch.setattr(device_server, "SLOWEST_S", 0.5)
    one = Served()
    port = int(one.url.rsplit(":", 1)[1])
    body = json.dumps(demand(tiny)).encode()
    whole = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    halves = [b"", b"GET", b"GET /health HTTP/1.1\r\nHost: x\r\n", whole + b"GET /he",
              b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
              + str(len(body)).encode() + b"\r\n\r\n" + body[:20]]
    try:
        open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(20 * len(halves))]
        for number, connection in enumerate(open_ones):
            connection.sendall(halves[number % len(halves)])
        assert httpx.get(one.url + "/health").status_code == 200
        for connection in open_ones:
            connection.settimeout(10)
            while connection.recv(65536):
                pass  # closed from there
            connection.close()
        assert httpx.get(one.url + "/health").status_code == 200
    finally:
        one.stop()


class Ear:
    """A server that keeps the headers of every request and answers that a token is missing."""

    def __init__(self) -> None:
        heard = self.heard = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(dict(self.headers))
                self.send_response(401)
                self.end_headers()
                self.wfile.write(b'{"detail": "the token is missing"}')

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.mark.parametrize("words", [["resume", "RUN"], ["worker", "RUN"], ["run", "--resume", "--run", "RUN"]])
def test_a_run_does_not_choose_who_is_sent_the_token(words: list[str], folder: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    from tests.nas.workers.test_kill import begin

    monkeypatch.setenv(TOKEN, SECRET)
    ear = Ear()
    run = begin(tmp_path / "foreign", 0)
    values = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(values | {"device": ear.url, "state": "interrupted"}))
    words = [str(run.path) if word == "RUN" else word for word in words]
    assert main([*words, *([] if words[0] == "worker" else ["--trials", "1", "--workers", "1"])]) != 0
    assert ear.heard
    assert not any(SECRET in value for headers in ear.heard for value in headers.values())
    text = capsys.readouterr().err + "".join(path.read_text() for path in run.path.glob("workers/*.log"))
    assert f"--device {ear.url}" in text
    # Named by the user, it is told; another port of the same host is not.
    heard = len(ear.heard)
    other = Ear()
    assert main(["worker", str(run.path), "--device", ear.url]) != 0
    assert ear.heard[heard]["Authorization"] == f"Bearer {SECRET}"
    with pytest.raises(UsageError):
        check_device(other.url)
    assert not any("Authorization" in headers for headers in other.heard)
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize("device", ["http://user:s3cret@host:1", "HTTP://user:s3cret@host", "http://u:s3/cret@host",
                                    "http://host/?token=s3cret", "http://host:s3cret", "ftp://s3cret",
                                    "user:s3cret@host", "http://host/#s3cret",
                                    "http://[s3cret", "http://ho st:1/s3cret"])
def test_secrets_of_an_address_are_never_repeated(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "t8", "--device", device]) == 2
    assert main(["--budget-ms", "1", "--device", device]) == 2
    assert main(["serve-device", "--device", device]) == 2
    said = "".join(capsys.readouterr())
    assert "http://HOST:PORT" in said
    assert "s3cret" not in said
    assert "s3" not in said


def test_what_is_too_much_or_no_request_is_refused(tiny: FastViTConfig, served: Served) -> None:
    huge = tiny.replace(widths=(8192, 8192, 8192, 8192)).to_dict()
    for changes, status in (({"targets": []}, 422), ({"targets": [tiny.to_dict()] * 17}, 422), ({"batch": 10**6}, 422),
                            ({"resolution": 10**5}, 422), ({"targets": [huge]}, 413), ({"targets": [{"a": 1}]}, 422),
                            ({"targets": ["os.system"]}, 422),
                            ({"targets": [tiny.to_dict() | {"depths": [1, 1, 2 * 10**8, 1]}]}, 422),
                            ({"targets": [tiny.to_dict() | {"widths": [10**400] * 4}]}, 422),
                            ({"targets": ["timm:vit_huge_patch14_224"]}, 413), ({"targets": ["timm:hf-hub:a/b"]}, 422),
                            ({"targets": ["timm:resnet50"], "resolution": 2048, "batch": 8}, 413),
                            ({"weights": "AAAA"}, 422), ({"id": "../x"}, 422),
                            ({"budget_ms": -1}, 422), ({"protocol": "mean"}, 422)):
        answer = httpx.post(served.url + "/jobs", json=demand(tiny, **changes), timeout=60)  # imports timm first
        assert answer.status_code == status, (changes, answer.text)
    assert httpx.post(served.url + "/jobs", content=b" " * 300_000,
                      headers={"content-type": "application/json"}).status_code == 413
    for infinite in ("1e400", "-1e400", "9" * 400, "NaN"):
        for key in ("resolution", "batch", "budget_ms", "half_width"):
            text = json.dumps(demand(tiny, **{key: "?"})).replace('"?"', infinite)
            assert httpx.post(served.url + "/jobs", content=text,
                              headers={"content-type": "application/json"}).status_code == 422, (key, infinite)
        text = json.dumps(demand(tiny)).replace('"widths": [', f'"widths": [{infinite}, ')
        assert httpx.post(served.url + "/jobs", content=text,
                          headers={"content-type": "application/json"}).status_code == 422, infinite
        assert httpx.get(served.url + f"/jobs/{0:032x}", params={"wait_s": infinite}).status_code in (404, 422)
    # A web page elsewhere can send neither JSON nor another host's name.
    text = json.dumps(demand(tiny))
    assert httpx.post(served.url + "/jobs", content=text, headers={"content-type": "text/plain"}).status_code == 415
    assert httpx.get(served.url + "/health", headers={"host": "evil.example"}).status_code == 400
    assert served.desk.measured == 0
    assert not served.desk.jobs


def test_a_full_queue_says_so_and_an_abandoned_job_is_not_measured(
        tiny: FastViTConfig, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.latency import device_server

    go = threading.Event()
    asked = []

    def slow(targets: list, device: str, **how: object) -> list:
        asked.append(len(targets))
        go.wait(20)
        return []

    monkeypatch.setattr(device_server, "measure_many", slow)
    monkeypatch.setattr(device_server, "MOST_WAITING", 3)
    answers = [httpx.post(served.url + "/jobs", json=demand(tiny, id=f"{i:032x}")) for i in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503]
    assert answers[3].headers["retry-after"]
    assert httpx.post(served.url + "/jobs", json=demand(tiny, id=f"{1:032x}")).status_code == 202  # known already
    assert httpx.get(served.url + "/health").json()["waiting"] == 3
    served.desk.jobs[f"{2:032x}"].asked -= 1000
    go.set()
    while httpx.get(served.url + "/health").json()["waiting"]:
        time.sleep(0.02)
    assert asked == [1, 1]
    assert "nobody" in httpx.get(served.url + f"/jobs/{2:032x}").json()["error"]


class Flaky:
    """Passes connections on to a server, but cuts some of them off."""

    def __init__(self, url: str, cut: list[bool]) -> None:
        self.to = int(url.rsplit(":", 1)[1])
        self.cut, self.count = cut, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            near, _ = self.listening.accept()
            self.count += 1
            if self.cut and self.cut.pop(0):
                near.recv(10)
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.to))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        while data := one.recv(65536):
            other.sendall(data)
        other.close()


def test_a_lost_connection_is_asked_again_and_measured_once(tiny: FastViTConfig, served: Served) -> None:
    # The description, the job and its answer: each is cut off once or twice.
    flaky = Flaky(served.url, [True, False, True, True, False, True, False])
    found = measure(tiny, flaky.url, resolution=32, fresh=True)
    assert flaky.count >= 7
    assert served.desk.measured == 1
    assert found.seconds < 30
    there = measure(tiny, served.url, resolution=32)
    assert found.latency_ms == there.latency_ms  # waiting and asking again are no part of it


def test_a_job_that_a_restart_forgot_is_given_again(tiny: FastViTConfig, served: Served,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    original = device_client.ask

    def forgetting(url: str, question, **how):
        answer = original(url, question, **how)
        if answer.get("state") in ("waiting", "running") and not forgotten:
            forgotten.append(served.desk.jobs.clear())
        return answer

    monkeypatch.setattr(device_client, "ask", forgetting)
    assert measure(tiny, served.url, resolution=32).latency_ms > 0
    assert forgotten


def test_a_connection_that_stays_lost_is_a_failure_and_no_latency(
        tiny: FastViTConfig, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_client, "RETRY_S", 0.5)
    check_device(served.url)
    served.stop()
    with pytest.raises(Failure, match=r"no answer from http.*serve-device"):
        measure(tiny, served.url, resolution=32)
    with pytest.raises(NotAvailable, match="no answer"):
        check_device("http://127.0.0.1:9")


@pytest.mark.parametrize(("words", "expected"), [
    (["--host", "0.0.0.0"], "FASTVIT_EXPLORER_TOKEN"), (["--port", "99999"], "--port"), (["--device", "x"], "expected"),
    (["--device", "http://other:1"], "device of this machine"), (["--device", "iphone12pro"], "predicted")])
def test_the_command_refuses(words: list[str], expected: str, capsys: pytest.CaptureFixture[str],
                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert main(["serve-device", *words]) == 2
    assert expected in capsys.readouterr().err


def test_the_command_serves_and_its_death_is_a_failure(tiny: FastViTConfig, folder: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, str(ROOT / "search.py"), "serve-device", "--port", "0"], text=True,
                               stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT)
    try:
        line = process.stderr.readline()
        url = next(word.rstrip(",;") for word in line.split() if word.startswith("http"))
        assert "without a token" in line
        assert measure(tiny, url, resolution=32, protocol="paper").latency_ms > 0
        process.kill()
        monkeypatch.setattr(device_client, "RETRY_S", 0.5)
        with pytest.raises(Failure, match="no answer"):
            measure(tiny, url, resolution=32, protocol="paper")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
