"""How a run ends: signals, failures alike, limits, words that do not fit; and what is told of it afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from fastvit.presets import PRESETS
from nas.errors import UsageError
from nas.report.documents import front_document, status_document
from nas.runs.meta import SCHEMA
from nas.runs.run import Run
from nas.search.confirmed import search_trials
from nas.workers.liveness import SAME_PLACE_LIMIT
from nas.workers.resources import WORKER_GB, Machine, default_workers, share, too_many
from tests.nas import services
from tests.nas.workers.test_kill import ROOT, STAND_IN, begin


def launch(run: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "search.py", "resume", str(run), "--workers", "2", "--confirm", "0",
                             *words], cwd=ROOT, env=STAND_IN | environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def search(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "search.py", *map(str, words)], cwd=ROOT, env=STAND_IN, text=True,
                          capture_output=True, timeout=120, check=False)


def wait_for(run: Path, ended: int) -> None:
    deadline = time.monotonic() + 90
    while sum(r.outcome not in ("running", "failed") for r in search_trials(Run.open(run))) < ended:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_cleanly_and_resume_goes_on(tmp_path: Path, number: int, code: int) -> None:
    path = tmp_path / "run"
    begin(path, 6)
    process = launch(path, "--trials", "6", STAND_IN_RUNG_S="0.3")
    wait_for(path, 1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "ending after the current trials" in err
    assert f"go on with:  python search.py resume {path}" in err
    assert "Front under 50 ms" in out
    assert "Traceback" not in err
    assert "[I " not in err, "Optuna's log is not ours"
    status = status_document(Run.open(path))
    assert status["state"] == "interrupted"
    assert status["trials"]["running"] == 0
    before = status["trials"]["complete"]
    assert before < 13
    process = launch(path)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "ending" not in err
    assert status_document(Run.open(path))["trials"]["complete"] == 13, "as many as it was started with"


def test_a_second_signal_aborts(tmp_path: Path) -> None:
    path = tmp_path / "run"
    begin(path, 4)
    process = launch(path, "--trials", "4", STAND_IN_RUNG_S="300")
    deadline = time.monotonic() + 200
    while not any(r.latency for r in search_trials(Run.open(path))):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None, "the current trials last five minutes"
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert time.monotonic() - begun < 150
    assert "Traceback" not in err
    records = search_trials(Run.open(path))
    assert not [r for r in records if r.outcome == "running"]
    assert {r.reason for r in records if r.outcome == "failed"} == {"the worker died; tried again"}


def test_five_failures_alike_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    begin(path, 100)
    process = launch(path, "--trials", "100", STAND_IN_FAILS="the cable is out")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "the first five trials failed alike: ZeroDivisionError: the cable is out" in err
    assert "Traceback" not in err
    status = status_document(Run.open(path))
    assert status["failures"]["ZeroDivisionError: the cable is out"] >= 5
    assert status["trials"]["failed"] < 60
    assert " x ZeroDivisionError: the cable is out" in search("status", path).stdout
    failed = next(r for r in search_trials(Run.open(path)) if r.outcome == "failed")
    assert failed.traceback is not None
    assert "stand_in.py" in failed.traceback


@pytest.mark.slow
def test_a_configuration_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "run"
    begin(path, 2)
    poison = PRESETS["t12"].key()
    process = launch(path, "--trials", "2", "--workers", "1", STAND_IN_DIES_OF=poison)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    records = search_trials(Run.open(path))
    ended = [r for r in records if r.config_key == poison]
    assert [r.outcome for r in ended] == ["failed"] * SAME_PLACE_LIMIT
    assert ended[-1].reason == f"its workers died {SAME_PLACE_LIMIT} times at the same place"
    assert sum(r.outcome == "complete" for r in records) == 8


def test_workers_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    begin(path, 1)
    process = launch(path, "--trials", "1", FASTVIT_EXPLORER_WORKER=f"{sys.executable} -c 'raise SystemExit(7)'")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "workers keep dying (exit code 7)" in err


def test_a_device_that_vanishes_costs_no_trial(tmp_path: Path) -> None:
    path, gone = tmp_path / "run", tmp_path / "gone"
    begin(path, 6)
    process = launch(path, "--trials", "6", STAND_IN_GONE=str(gone), STAND_IN_RUNG_S="0.2")
    wait_for(path, 2)
    gone.touch()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "workers keep dying (exit code 1)" in err
    assert "no answer from http://bench:8765" in err
    assert "Traceback" not in err
    process = launch(path, "--trials", "6", STAND_IN_GONE=str(tmp_path / "there"))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    records = search_trials(Run.open(path))
    assert {r.reason for r in records if r.outcome == "failed"} <= {"the worker died; tried again"}
    assert {r.preset for r in records if r.outcome == "complete"} >= {"t8", "t12", "s12", "sa12"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_device_server_that_is_started_again_is_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    path, port = tmp_path / "run", services.free_port()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FASTVIT_EXPLORER_CACHE": str(tmp_path / "cache")}

    def serve() -> subprocess.Popen[bytes]:
        found = subprocess.Popen([sys.executable, "search.py", "serve-device", "--port", str(port)], cwd=ROOT,
                                 env=environment, stderr=subprocess.DEVNULL)
        services.wait_for_port(port, found)
        return found

    server = serve()
    try:
        begin(path, 3, "--device", f"http://127.0.0.1:{port}")
        process = launch(path, "--trials", "3", FASTVIT_EXPLORER_CACHE=str(tmp_path / "cache"))
        wait_for(path, 2)
        server.kill()
        server.wait()
        time.sleep(30)
        server = serve()
        _, err = process.communicate(timeout=400)
    finally:
        server.kill()
        server.wait()
    assert process.returncode == 0, err
    records = search_trials(Run.open(path))
    assert {r.outcome for r in records} <= {"complete", "stopped_early"}
    assert len(records) == 10
    # The wait is nobody's latency: deeper presets are slower, as measured without any server.
    ms = {r.preset: r.latency_ms for r in records if r.preset and r.latency_ms}
    assert ms["t8"] < ms["sa12"] < ms["sa24"] < ms["ma36"] < 200


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit, which Linux has")
def test_a_journal_that_cannot_grow_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    begin(path, 6)
    limit = (path / "journal.log").stat().st_size + 50_000
    process = subprocess.Popen(
        ["prlimit", f"--fsize={limit}:{limit}", sys.executable, "search.py", "resume", str(path), "--trials", "6",
         "--workers", "2", "--confirm", "0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=STAND_IN | {"FASTVIT_EXPLORER_PATIENCE_S": "2"})
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert "nothing that was recorded is lost" in err
    assert "Traceback" not in err
    done = {r.trial: r.score for r in search_trials(Run.open(path)) if r.outcome == "complete"}
    assert done
    process = launch(path)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    after = {r.trial: r.score for r in search_trials(Run.open(path)) if r.outcome == "complete"}
    assert done.items() <= after.items()
    assert len(after) == 13
    assert all(r.retried for r in search_trials(Run.open(path)) if r.outcome == "failed")


def test_one_launcher_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run"
    begin(path, 4)
    process = launch(path, "--trials", "4", STAND_IN_RUNG_S="0.5")
    wait_for(path, 1)
    second = search("resume", path)
    assert second.returncode == 2
    assert "is running already" in second.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_what_the_parent_took_does_not_end_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.workers.worker import Worker
    from tests.nas.stand_in import StandIn

    monkeypatch.setattr("nas.workers.trial_runner.NOTICED_S", 0.1)
    made = begin(tmp_path / "run", 0)
    stand_in = StandIn(made, measure_s=0, rung_s=0)
    monkeypatch.setattr(stand_in, "prepare", lambda seed: time.sleep(0.2))
    worker = Worker(made, "one", stand_in)
    worker.run_trial(worker.chooser.study.ask())
    [record] = search_trials(made)
    assert record.cost_s["parent"] >= 0.2
    others = sum(record.cost_s.values()) - record.cost_s["parent"]
    made.update(search_seconds_left=others + 0.1)
    assert not worker.limits.searched_enough([record]), "there is time for a trial, though not for another parent"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nas.workers.worker import Worker
    from tests.nas.stand_in import StandIn

    path = tmp_path_factory.mktemp("ended") / "run"
    made = begin(path, 3)
    worker = Worker(made, "one", StandIn(made, measure_s=0, rung_s=0))
    for _ in range(10):
        worker.run_trial(worker.chooser.study.ask())
    return path


@pytest.mark.parametrize(("words", "said"), [
    (["--data", "shapes"], "--data shapes"), (["--device", "torch:cpu"], "--device torch:cpu"),
    (["--resolution", "96"], "--resolution 96"), (["--steps", "60"], "--steps 60"), (["--seed", "3"], "--seed 3"),
    (["--space", "{tiny}"], "--space"), (["--budget-ms", "1"], "--budget-ms 1"),
    (["--budgets", "1,2"], "--budgets 1,2"), (["--sampler", "tpe"], "--sampler tpe"),
    (["--storage", "grpc://h:1"], "leave --storage out")])
def test_other_words_than_the_run_has(run: Path, tmp_path: Path, words: list[str], said: str,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\ndepths = [[1], [1], [1], [1]]\nwidths = [[16], [32], [48], [96]]\nmlp_ratios = [1]\n'
        'mixers = [["repmixer"], ["repmixer"], ["repmixer"], ["repmixer"]]\n')
    words = [word.format(tiny=tmp_path / "tiny.toml") for word in words]
    import search as command

    code = command.main(["run", "--run", str(run), "--resume", *words])
    assert code == 2
    assert said in capsys.readouterr().err


def test_other_words_are_one_sentence(run: Path) -> None:
    done = search("--run", run, "--resume", "--seed", "3")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "was begun with 0" in done.stderr


def test_a_run_of_an_older_version_opens_and_one_of_a_newer_does_not(run: Path, tmp_path: Path) -> None:
    meta = json.loads((run / "run.json").read_text())
    old = tmp_path / "old"
    old.mkdir()
    os.symlink(run / "journal.log", old / "journal.log")
    older = {k: v for k, v in meta.items() if k not in ("budgets", "storage", "updated", "sampler")} | {"schema": 1}
    (old / "run.json").write_text(json.dumps(older))
    opened = Run.open(old)
    assert opened.meta.schema == SCHEMA
    assert opened.meta.budgets == (50.0,)
    assert front_document(opened)["points"]
    for changes, said in (({"schema": SCHEMA + 1}, "newer version"), ({"schema": 0}, "reads 1 to"),
                          ({"schema": "x"}, "no schema number")):
        (old / "run.json").write_text(json.dumps(meta | changes))
        with pytest.raises(UsageError, match=said):
            Run.open(old)
    (old / "run.json").write_text('{"schema": 2}')
    with pytest.raises(UsageError, match="says nothing of id, budget_ms"):
        Run.open(old)


def test_seeds_of_another_recipe_are_not_brought_to_todays_levels(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("nas.search.confirmed.with_confirmations",
                        lambda every, attrs, images: seen.append(images) or every)
    opened = Run.open(run)
    for recipe in (opened.meta.recipe, opened.meta.recipe - 1):
        opened.meta = replace(opened.meta, recipe=recipe)
        search_trials(opened)
    assert seen == [opened.meta.task_fingerprint, ""]


def test_scores_of_another_recipe_are_not_added_to(run: Path) -> None:
    from nas.workers.evaluator import RunEvaluator

    opened = Run.open(run)
    RunEvaluator(opened)
    opened.meta = replace(opened.meta, recipe=1)
    with pytest.raises(UsageError, match="training recipe 1; this version trains by recipe"):
        RunEvaluator(opened)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_export_run(run: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"trials.{suffix}"
    done = search("export-run", run, "--to", target)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(target) if suffix == "csv" else pd.read_parquet(target)
    records = Run.open(run).trials()
    assert list(frame.trial) == [r.trial for r in records]
    assert frame.latency_ms.tolist() == pytest.approx([r.latency_ms for r in records])
    assert set(frame.device) == {"onnxruntime"}
    assert json.loads(frame.scores_json[0]) == [asdict(rung) for rung in records[0].scores]
    assert {"origin", "reason", "config", "budget_ms", "seed", "retried"} <= set(frame)


def test_export_run_says_what_it_cannot(run: Path, tmp_path: Path) -> None:
    for target, code, said in ((tmp_path / "x.xlsx", 2, ".csv or .parquet"), (tmp_path / "no" / "x.csv", 1, "cannot")):
        done = search("export-run", run, "--to", target)
        assert done.returncode == code
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_doctor() -> None:
    done = search("doctor", "--json")
    found = json.loads(done.stdout)
    assert found["ok"] is (done.returncode == 0)
    checks = {check["name"]: check for check in found["checks"]}
    assert {"python", "torch", "cores", "memory", "cache folder", "device onnxruntime"} <= set(checks)
    assert all(check["advice"] or not check["needed"] or "device" in check["name"]
               for check in found["checks"] if not check["ok"])


def test_doctor_says_when_the_search_cannot_run(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("coreml works here")
    done = search("doctor", "--device", "coreml")
    assert done.returncode == 1
    assert "MISSING device coreml " in done.stdout
    blocked = tmp_path / "file"
    blocked.touch()
    done = subprocess.run([sys.executable, "search.py", "doctor"], cwd=ROOT, text=True, capture_output=True,
                          env=STAND_IN | {"FASTVIT_EXPLORER_CACHE": str(blocked / "cache")}, check=False)
    assert done.returncode == 1
    assert "set FASTVIT_EXPLORER_CACHE" in done.stdout
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------- sharing out a machine

@pytest.mark.parametrize(("machine", "workers"), [
    (Machine(2, 16), 2), (Machine(64, 256), 8), (Machine(8, 2), 1), (Machine(8, 0.5), 1),
    (Machine(32, 128, ("0", "1", "2", "3")), 4), (Machine(32, 4, ("0", "1", "2", "3")), 2)])
def test_default_workers(machine: Machine, workers: int) -> None:
    assert default_workers(machine) == workers


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("workers", [1, 2, 5, 100])
@pytest.mark.parametrize("gpus", [(), ("0",), ("0", "1", "GPU-ab")])
def test_shares_fit_the_machine(cores: int, workers: int, gpus: tuple[str, ...]) -> None:
    shares = share(Machine(cores, 64, gpus), workers)
    assert len(shares) == workers
    assert sum(s.threads for s in shares) <= max(cores, workers)
    used = [sum(s.gpu == gpu for s in shares) for gpu in gpus]
    assert not used or max(used) - min(used) <= 1
    assert all(("CUDA_VISIBLE_DEVICES" in s.environment()) == bool(gpus) for s in shares)
    assert all(s.environment()["OMP_NUM_THREADS"] == str(s.threads) for s in shares)


def test_gpus_are_read_from_the_environment() -> None:
    from nas.workers.resources import _gpus

    assert _gpus({"CUDA_VISIBLE_DEVICES": "2,GPU-ab"}) == ("2", "GPU-ab")
    assert _gpus({"CUDA_VISIBLE_DEVICES": ""}) == _gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == ()


def test_too_many_workers_are_named() -> None:
    assert too_many(Machine(8, 8 * WORKER_GB), 8) == ""
    assert "--workers 8 fits" in too_many(Machine(8, 8 * WORKER_GB), 9)
