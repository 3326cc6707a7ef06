"""Storages: what a kill, a full disk or a restart leaves behind, and runs that several machines share."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from nas.addresses import hide, shown, storage_url
from nas.errors import Failure, UsageError
from nas.report.documents import front_document
from nas.runs.journal import Journal
from nas.runs.run import Run
from nas.runs.storage import StorageGone, open_journal, open_storage, patient, public_line
from nas.search.confirmed import search_trials
from nas.workers.liveness import STALE_S, AliveWorkers, Heartbeat, checkpoint_path, lock_path, requeue_abandoned
from nas.workers.worker import Worker
from search import main
from tests.nas import services
from tests.nas.stand_in import StandIn
from tests.nas.trials import meta as made_meta
from tests.nas.workers.test_kill import ROOT, STAND_IN, begin

optuna.logging.set_verbosity(optuna.logging.WARNING)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_half_a_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    journal = Journal(path)
    journal.append_logs([{"n": 0}])
    for half in (b'{"n": 1', b"x" * 10_000, b"\0" * 5000):
        with path.open("ab") as file:
            file.write(half)
        assert list(Journal(path).read_logs(0)) == [{"n": 0}]
        journal.append_logs([{"n": 2}])
        assert lines(path) == [b'{"n":0}', b'{"n":2}']
        with path.open("r+b") as file:
            file.truncate(8)


def test_a_journal_reads_on_where_it_stopped(tmp_path: Path) -> None:
    journal, other = Journal(tmp_path / "journal.log"), Journal(tmp_path / "journal.log")
    journal.append_logs([{"n": n} for n in range(3)])
    assert [entry["n"] for entry in other.read_logs(0)] == [0, 1, 2]
    journal.append_logs([{"n": 3}])
    assert [entry["n"] for entry in other.read_logs(3)] == [3]
    assert [entry["n"] for entry in other.read_logs(1)] == [1, 2, 3]


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    code = ("import sys, pathlib; from nas.runs.journal import Journal\n"
            "journal = Journal(pathlib.Path(sys.argv[1]))\n"
            "for n in range(50): journal.append_logs([{'who': sys.argv[2], 'n': n, 'x': 'y' * 3000}])")
    path = tmp_path / "journal.log"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)], cwd=ROOT) for who in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len({(entry["who"], entry["n"]) for entry in map(json.loads, lines(path))}) == 200


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    study = optuna.create_study(storage=open_journal(path, patience_s=0.3))
    study.add_trial(optuna.trial.create_trial(value=1.0))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # the kernel takes 20 bytes and no more
    try:
        with pytest.raises(StorageGone, match=r"cannot be used: .*; nothing that was recorded is lost"):
            study.add_trial(optuna.trial.create_trial(value=2.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    study.add_trial(optuna.trial.create_trial(value=3.0))
    again = optuna.load_study(study_name=None, storage=open_journal(path))
    assert [trial.value for trial in again.trials] == [1.0, 3.0]


class Away:
    """A storage that fails so many times."""

    def __init__(self, inner: optuna.storages.BaseStorage, errors: list[Exception]) -> None:
        self.inner, self.errors = inner, errors

    def __getattr__(self, name: str) -> object:
        def call(*args: object, **kwargs: object) -> object:
            found = getattr(self.inner, name)(*args, **kwargs)  # the write happens, its answer is lost
            if self.errors:
                raise self.errors.pop()
            return found
        return call


def test_a_storage_that_comes_back_is_waited_for() -> None:
    away = Away(optuna.storages.InMemoryStorage(), [])
    study = optuna.create_study(storage=patient(away, "there", 5.0))  # type: ignore[arg-type]
    trial = study.ask()
    away.errors = [ConnectionResetError(), OSError(28, "No space left on device")]
    study.tell(trial, 1.0)
    assert study.best_value == 1.0
    away.errors = [ValueError("a defect is no outage")]
    with pytest.raises(ValueError, match="defect"):
        study.ask()


@pytest.mark.parametrize(("url", "said"), [
    ("sqlite:///x.db", "expected postgresql"), ("redis://h", "expected postgresql"), ("nonsense", "expected"),
    ("postgresql://u:s3cret@host", "name of the database"), ("grpc://", "grpc://HOST:PORT"),
    ("grpc://h:1/db", "grpc://HOST:PORT"), ("mysql://u:s3cret@h:port/db", "port is no number")])
def test_urls_that_are_none(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        storage_url(url)
    assert "s3cret" not in str(caught.value)


def test_urls_are_made_whole() -> None:
    for text, whole in (("postgres://u:p@h/db", "postgresql+psycopg://u:p@h/db"), ("grpc://h", "grpc://h:13000"),
                        ("mariadb://u:p@h:3/db?x=1", "mysql+pymysql://u:p@h:3/db?x=1")):
        assert storage_url(text).render_as_string(hide_password=False) == whole
    for text, seen in (("postgres://u:p@h/db", "postgresql://h/db"), ("grpc://u:p@h", "grpc://h:13000"),
                       ("postgresql:///db?host=h&user=u&password=p", "postgresql://h/db"),
                       ("mariadb+pymysql://u:p@[::1]:3/db?x=1", "mysql://[::1]:3/db")):
        assert shown(storage_url(text)) == seen


# Every place that a password was seen in, and letters that end a URL's user part too early.
URLS = ["{scheme}://user:{secret}@{host}/db", "{scheme}://{host}/db?user=user&password={secret}",
        "{scheme}://user:{secret}@{host}", "{scheme}://user:{secret}@{host}/db?password={secret}&sslmode=disable",
        "host={host} user=user password={secret} dbname=db", "{scheme}://user:{secret}@{host}/db/x",
        "{scheme}://{secret}@{host}/db", "{scheme} ://user:{secret}@{host}/db", "user:{secret}@{host}/db"]
SECRETS = ["s3cretword", "s3cret/word", "s3cret@word", "s3cret'word", 's3cret"word', "s3cret word", "s3cret%2Fword",
           "s3cret:word", "s3cret?word", "s3cret#word", "s3cret&word", "s3cret=word", "s3cret\\word", "s3cret{word}"]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "mariadb", "grpc", "redis"])
@pytest.mark.parametrize("template", URLS)
def test_no_secret_is_shown(template: str, scheme: str, caplog: pytest.LogCaptureFixture,
                            capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a message, nor in what a driver says, nor in the run."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pymysql")
    monkeypatch.setattr("nas.runs.storage.CONNECT_S", 1)
    said = []
    for secret in SECRETS:
        url = template.format(scheme=scheme, secret=secret, host=f"127.0.0.1:{services.free_port()}")
        try:
            parsed = storage_url(url)
            said.append(shown(parsed))
            # As a driver may say it: what it was given.
            driver = Exception(f"cannot log in with {url}: {parsed.password!r}, {parsed.password}, "
                               f"{[*parsed.query.values()]}")
            said += [public_line(driver), hide(str(driver))]
            if scheme != "grpc":  # which would be waited for
                open_storage(url)
        except (UsageError, Failure) as error:
            said.append(str(error))
    text = " ".join([*said, caplog.text, *capfd.readouterr()])
    assert "s3cret" not in text
    assert "word" not in text.replace("password", "").replace("a word of the query", "").replace("PASSWORD", "")


def test_nobody_answers(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("pymysql")
    port = services.free_port()
    for url in (f"postgresql://u:s3cret@127.0.0.1:{port}/db", f"mysql://u:s3cret@127.0.0.1:{port}/db"):
        with pytest.raises(StorageGone, match="does not answer") as caught:
            open_storage(url)
        assert "s3cret" not in str(caught.value)
    assert "s3cret" not in "".join(capfd.readouterr())


def test_names_that_come_with_a_run_stay_in_its_folder(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", 0)
    (tmp_path / "away-0.pt").touch()
    study, evil = run.study, {"worker": "../../away", "config_key": "../../away", "outcome": "failed", "seed": 0}
    for trial in (study.ask(), study.ask()):
        trial.set_user_attr("record", evil)
    requeue_abandoned(run)
    assert (tmp_path / "away-0.pt").exists()
    assert not (tmp_path / "away.lock").exists()
    workers = run.path / "workers"
    assert Path(lock_path(run, "../../x")).parent == checkpoint_path(run, "/etc/x", 0).parent == workers


# ---------------------------------------------------------------------------------------------- shared storages

@pytest.fixture(scope="module")
def server() -> Iterator[services.Postgres]:
    pytest.importorskip("psycopg")
    with services.postgres() as found:
        if found is None:
            pytest.skip("PostgreSQL is not installed here")
        yield found


def shared_run(folder: Path, name: str, url: str, configs: int) -> Run:
    return begin(folder / name, configs, "--storage", url)


def by_other_machine(folder: Path, url: str, name: str, trials: int) -> Run:
    """What a worker does that only knows the run's name and the storage."""
    run = Run.open(folder / name, url)
    with Heartbeat(run, f"far-{folder.name}"):
        worker = Worker(run, f"far-{folder.name}", StandIn(run, measure_s=0, rung_s=0))
        for _ in range(trials):
            worker.run_trial(worker.chooser.study.ask())
    return run


def test_workers_of_other_machines(tmp_path: Path, server: services.Postgres) -> None:
    run = shared_run(tmp_path / "here", "shared", server.url, 5)
    assert "s3cret" not in "".join(path.read_text() for path in run.path.rglob("*") if path.is_file())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda far: by_other_machine(tmp_path / far, server.url, "shared", 6), ("there", "yonder")))
    records = search_trials(Run.open(run.path, server.url))
    assert len(records) == 12
    assert {r.outcome for r in records} == {"complete"}
    assert {r.worker for r in records} == {"far-there", "far-yonder"}
    assert len({r.config_key for r in records}) == 12
    assert front_document(Run.open(run.path, server.url))["points"]
    with pytest.raises(UsageError, match="name it with --storage"):
        search_trials(Run.open(run.path))
    with pytest.raises(UsageError, match="nor does the storage know"):
        Run.open(tmp_path / "other", server.url)
    with pytest.raises(UsageError, match="has a run named shared already"):
        shared_run(tmp_path / "again", "shared", server.url, 0)


def test_the_dashboard_reads_shared_runs(tmp_path: Path, server: services.Postgres,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.load import Reader

    run = shared_run(tmp_path, "seen", server.url, 0)
    with pytest.raises(UsageError, match="FASTVIT_EXPLORER_STORAGE"):
        Reader(run.path).read()
    monkeypatch.setenv("FASTVIT_EXPLORER_STORAGE", server.url)
    reader = Reader(run.path)
    assert reader.read().records == []
    by_other_machine(tmp_path / "far", server.url, "seen", 2)
    time.sleep(1.1)
    assert len(reader.read().records) == 2


def test_beats_tell_who_lives_on_another_machine(tmp_path: Path, server: services.Postgres,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    run = shared_run(tmp_path, "beats", server.url, 0)
    far = Run.open(tmp_path / "far" / "beats", server.url)
    trial = far.study.ask()
    heart = Heartbeat(far, "far-1")
    heart.__enter__()
    trial.set_user_attr("record", {"worker": "far-1", "outcome": "running"})
    workers = AliveWorkers(run)
    assert requeue_abandoned(run, workers) == 0
    monkeypatch.setattr("nas.workers.liveness.STALE_S", 0.0)  # as if it had been silent for long
    time.sleep(1.1)  # the attributes of a study are kept for a second
    assert requeue_abandoned(run, workers) == 1
    retried = [t for t in run.study.get_trials() if t.user_attrs.get("retry_of") == trial.number]
    assert len(retried) == 1
    assert retried[0].user_attrs["preset"] == trial.user_attrs["preset"]
    heart.__exit__()


def test_nobody_is_dead_because_the_storage_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared:
        meta, path = made_meta(storage="postgresql://host/db"), tmp_path

        def attrs(self) -> dict[str, int]:
            return {"beat:far": beats}

    now, beats = 1000.0, 1
    monkeypatch.setattr("nas.workers.liveness.time.monotonic", lambda: now)
    workers = AliveWorkers(Shared())  # type: ignore[arg-type]
    workers.look()
    now += STALE_S + 5  # one look that lasted so long
    workers.look()
    assert workers.alive("far")
    for _ in range(20):  # and twenty that found no beat
        now += 5
        workers.look()
    assert not workers.alive("far")
    beats += 1
    workers.look()
    assert workers.alive("far")


def test_stop_and_limits_reach_other_machines(tmp_path: Path, server: services.Postgres) -> None:
    run = shared_run(tmp_path, "stop", server.url, 0)
    far = Run.open(tmp_path / "far" / "stop", server.url)
    assert not far.told_to_stop()
    run.update(trial_limit=3)
    run.tell_to_stop()
    time.sleep(1.1)
    assert far.told_to_stop()
    assert far.refresh().trial_limit == 3


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize(("proxied", "away_s"), [(True, 10), (False, 65)])
def test_a_database_that_is_away(tmp_path: Path, server: services.Postgres, proxied: bool, away_s: float) -> None:
    """Two workers of a launcher and one of another machine, in the middle of their trials."""
    if proxied:
        pytest.importorskip("grpc")
    name = f"away-{away_s}"
    with services.proxy(server.url) if proxied else contextlib.nullcontext(server.url) as url:
        run = shared_run(tmp_path, name, server.url, 20)
        launcher = subprocess.Popen(
            [sys.executable, "search.py", "resume", str(run.path), "--storage", url, "--trials", "20",
             "--workers", "2", "--confirm", "0"], cwd=ROOT, env=STAND_IN, stderr=subprocess.PIPE, text=True)
        far = subprocess.Popen([sys.executable, "-m", "tests.nas.stand_in", str(tmp_path / "far" / name), "far"],
                               cwd=ROOT, env=STAND_IN | {"FASTVIT_EXPLORER_STORAGE": url})
        deadline = time.monotonic() + 100
        while not (before := ended(run)):
            assert time.monotonic() < deadline
            time.sleep(1)
        server.stop()
        time.sleep(away_s)
        server.start()
        said = launcher.communicate(timeout=300)[1]
        assert launcher.returncode == 0, said
        assert far.wait(timeout=100) == 0
    records = search_trials(Run.open(run.path, server.url))
    assert len([r for r in records if r.outcome == "complete"]) >= 27
    assert before.items() <= ended(run).items()
    assert {r.reason for r in records if r.outcome == "failed"} <= {"the worker died; tried again"}
    assert "s3cret" not in said


def ended(run: Run) -> dict[int, float | None]:
    return {r.trial: r.score for r in search_trials(run) if r.outcome == "complete"}


def test_a_worker_name_is_taken_once(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", 0)
    with Heartbeat(run, "one"), pytest.raises(RuntimeError, match="choose another --id"), Heartbeat(run, "one"):
        pass
    assert AliveWorkers(run).anyone() is False


def test_a_taken_port_is_not_shared(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    monkeypatch.setattr("nas.runs.storage.open_database", lambda *words, **more: optuna.storages.InMemoryStorage())
    with contextlib.closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as gRPC sets it
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve-storage", "--storage", "postgresql://h/db", "--port", str(port)]) == 1
    assert f":{port}" in capsys.readouterr().err
