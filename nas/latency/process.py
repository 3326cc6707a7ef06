"""The measuring process seen from whoever asks: started when needed, killed when it hangs, replaced when it dies."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nas.errors import Failure, UsageError, error_of
from nas.files import cache_folder

SECOND_TRIES = 2  # of a measurement whose process somebody killed
STARVED = 20.0  # times its limit, and a measurement ends however busy the machine is
WAIT_LIMIT_S = 3600.0  # for the device's lock: many workers measure one after the other
COMMAND = ("-m", "nas.latency.measurer")


def measuring_environment() -> dict[str, str]:
    """The variables of every process that measures.

    One thread unless a request asks for more, and none that spins while others are timed. Memory comes as an
    application gets it: on huge pages large networks would be 14 % faster than they are there (docs/LOG.md).
    """
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
                         "FASTVIT_EXPLORER_CACHE": str(cache_folder().resolve())}


class _Killed(Exception):
    """The measuring process was ended by somebody else."""


def _starved_s(pid: int) -> float:
    """Seconds that the busiest thread of a process stood ready without a core so far; 0 where the system does not
    tell (it does on Linux)."""
    waited = [0.0]
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            waited.append(int(path.read_text().split()[1]) / 1e9)
    return max(waited)


class MeasuringProcess:
    """One measuring process. Requests from several threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._owner = os.getpid()

    def ask(self, request: dict[str, Any], time_limit_s: float) -> list[dict[str, Any]]:
        """The measurements that answer `request`. The limit holds for preparing and for measuring, not for the wait
        for the device.

        Raises:
            Failure: the process crashed or hung (and is gone), or the runtime failed.
            UsageError, NotAvailable: the request cannot be answered here.
        """
        with self._turn:
            for attempt in range(1 + SECOND_TRIES):
                try:
                    return self._asked(request, time_limit_s)
                except _Killed as error:  # by the user, or for memory that others took: says nothing of the network
                    self.close()
                    if attempt == SECOND_TRIES:
                        raise Failure(str(error)) from None
        raise AssertionError

    def _asked(self, request: dict[str, Any], time_limit_s: float) -> list[dict[str, Any]]:
        process = self._started()
        stage = "prepare"
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            while True:
                limit = WAIT_LIMIT_S if stage == "wait" else time_limit_s
                line = self._line(limit)
                if line is None:
                    raise self._ended(f"the measuring process ended {_DURING[stage]} ({self._last_words()})")
                message = json.loads(line)
                if "measurements" in message:
                    answer: list[dict[str, Any]] = message["measurements"]
                    return answer
                if "error" in message:
                    raise error_of(message["kind"], message["error"])
                stage = message["stage"]
        except queue.Empty:
            self.close()
            raise Failure(f"{request['device']} did not answer within {limit:g} s {_DURING[stage]}") from None
        except (BrokenPipeError, OSError) as error:
            words = self._last_words()
            gone = self._ended(f"the measuring process is gone ({words or error})")
            self.close()
            raise gone from None
        except (Failure, UsageError, _Killed):
            if process.poll() is not None:
                self.close()
            raise
        except BaseException:
            self.close()  # an answer that nobody waits for must not meet the next request
            raise

    def _line(self, limit_s: float) -> str | None:
        """The next line. Time in which the process stood ready and got no core is not counted: on a starved machine
        every configuration would fail alike.

        Raises:
            queue.Empty: none within the limit, or within STARVED times the limit on any clock.
        """
        assert self._process is not None
        begun, starved = time.monotonic(), _starved_s(self._process.pid)
        while True:
            spent = time.monotonic() - begun
            lost = _starved_s(self._process.pid) - starved
            left = min(limit_s - (spent - lost), STARVED * limit_s - spent)
            if left <= 0:
                raise queue.Empty
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=max(left, 0.01))

    def _ended(self, words: str) -> Exception:
        code = None if self._process is None else self._process.poll()
        return _Killed(words) if code in (-signal.SIGKILL, -signal.SIGTERM) else Failure(words)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and (self._process.poll() is not None or self._owner != os.getpid()):
            self._process = None
        if self._process is None:
            self._owner = os.getpid()
            self._lines = queue.Queue()
            self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (as long as the process)
            self._process = subprocess.Popen(
                [sys.executable, *COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._errors, text=True, encoding="utf-8", env=measuring_environment(), start_new_session=True,
                cwd=Path(__file__).parents[2])
            threading.Thread(target=_forward, args=(self._process, self._lines), daemon=True).start()
            atexit.register(self.close)
        return self._process

    def _last_words(self) -> str:
        code = self._process.wait() if self._process is not None else None
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].strip().splitlines()
        reason = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return reason + (f": {lines[-1][:300]}" if lines else "")

    def close(self) -> None:
        """End the process at once; the next request starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            atexit.unregister(self.close)


_DURING = {"prepare": "while converting and loading the network", "wait": "while waiting for the device",
           "measure": "while measuring", "done": "after measuring"}


def _forward(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


MEASURING = MeasuringProcess()
