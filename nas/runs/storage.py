"""Where the trials of a run are kept: a journal beside it, a database, or Optuna's gRPC proxy in front of one.

Nothing that is read here is ever executed or unpickled: the journal is lines of JSON without the pickled snapshots
that some of Optuna's backends have, a database holds JSON in its columns.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages import BaseStorage

from nas.addresses import GRPC_PORT, hide, shown, storage_url
from nas.errors import Failure, NotAvailable, UsageError, first_line
from nas.runs.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import URL

log = logging.getLogger(__name__)

ENVIRONMENT = "FASTVIT_EXPLORER_STORAGE"  # a URL with a password belongs here: command lines can be read by others
# A storage that does not answer for longer ends the worker; its trial is tried again later.
CONNECT_S = 10
PATIENCE_S = float(os.environ.get("FASTVIT_EXPLORER_PATIENCE_S", "120"))


class StorageGone(Failure):
    """The storage cannot be read or written any more; what it held is still there."""


def open_database(text: str, *, connections: int = 1) -> BaseStorage:
    """The database behind a URL, for a process that asks it from `connections` threads. Raises as open_storage."""
    url = storage_url(text)
    if url.drivername == "grpc":
        raise UsageError(f"--storage {shown(url)}: expected a database, postgresql:// or mysql://")
    with _answering(url):
        return _database(url, connections)


@contextlib.contextmanager
def _answering(url: URL) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, (Failure, UsageError)) or not passing(error):
            raise
        raise StorageGone(f"--storage {shown(url)} does not answer: {public_line(error)}") from None


def _database(url: URL, connections: int) -> BaseStorage:
    import sqlalchemy
    from optuna.storages import RDBStorage, get_storage

    # One connection a process: a hundred workers with a pool each are more than a database takes.
    options: dict[str, Any] = {"pool_size": connections, "max_overflow": 2, "pool_pre_ping": True,
                               "connect_args": {"connect_timeout": CONNECT_S}}
    try:
        # The cache spares what has ended; reading every trial anew each time costs more than all the rest.
        return get_storage(RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=options))
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.ProgrammingError, TypeError):
        raise UsageError(f"--storage {shown(url)}: the driver does not know a word of the query") from None
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise NotAvailable(f"--storage {shown(url)} needs a driver that is not installed ({hide(str(error))}); "
                           "pip install 'fastvit-explorer[storage]'") from None


def _proxy(url: URL) -> BaseStorage:
    import warnings

    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            found = optuna.storages.GrpcStorageProxy(host=url.host or "", port=url.port or GRPC_PORT)
        except ImportError as error:
            raise NotAvailable(f"--storage {shown(url)} needs a package that is not installed ({error}); "
                               "pip install 'fastvit-explorer[storage]'") from None
    found.wait_server_ready(timeout=10)
    return found


def open_storage(text: str, *, patience_s: float | None = None) -> BaseStorage:
    """The storage behind a URL. The first connection is tried once; later ones wait for a storage that went away.

    Raises:
        UsageError: not such a URL.
        NotAvailable: a driver is missing.
        StorageGone: nobody answers there.
    """
    url = storage_url(text)
    if url.drivername != "grpc":
        return patient(open_database(text), shown(url), patience_s)
    with _answering(url):
        inner = _proxy(url)
    return patient(inner, shown(url), patience_s)


def open_journal(path: Path, *, patience_s: float | None = None) -> BaseStorage:
    """The journal of a run's folder.

    Raises:
        ValueError: it is damaged.
    """
    from optuna.storages import JournalStorage

    return patient(JournalStorage(Journal(path)), str(path), patience_s)


def public_line(error: BaseException) -> str:
    """What went wrong, in one line and without secrets."""
    return hide(first_line(error))


def passing(error: BaseException) -> bool:
    """Whether the storage may answer again: a full disk, a lost connection, a database that restarts."""
    from optuna.exceptions import StorageInternalError

    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    if isinstance(error, StorageInternalError):
        return error.__cause__ is None or passing(error.__cause__)
    if isinstance(error, OSError):
        return True
    kind = type(error)
    if kind.__module__.startswith("sqlalchemy"):
        return kind.__name__ in ("OperationalError", "InterfaceError", "TimeoutError", "DisconnectionError",
                                 "InternalError", "PendingRollbackError")
    if callable(code := getattr(error, "code", None)) and "grpc" in repr(kind.__mro__):
        return getattr(code(), "name", "") in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "CANCELLED")
    return False


class Patient(BaseStorage):
    """A storage that tries again while the one inside it is away.

    A write whose answer was lost may have happened. Setting a value twice is harmless; a trial created twice waits
    or runs without an owner, and is found as such (nas/workers/liveness.py); ending a trial twice is an error only the
    first time.
    """

    def __init__(self, inner: BaseStorage, name: str, patience_s: float) -> None:
        self.inner, self.name, self.patience_s = inner, name, patience_s

    def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        import tenacity
        from optuna.exceptions import UpdateFinishedTrialError

        attempt = 0

        def once() -> Any:
            nonlocal attempt
            attempt += 1
            try:
                return call(*args, **kwargs)
            except UpdateFinishedTrialError:
                if attempt > 1:
                    return True
                raise

        def say(state: tenacity.RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome is not None:
                log.warning("%s cannot be used (%s); trying again for up to %g s", self.name,
                            public_line(state.outcome.exception() or OSError()), self.patience_s)

        try:
            return once()
        except Exception as error:
            if not passing(error):
                raise
        retry = tenacity.Retrying(stop=tenacity.stop_after_delay(self.patience_s), before_sleep=say, reraise=True,
                                  wait=tenacity.wait_exponential_jitter(0.1, 5.0, jitter=0.5),
                                  retry=tenacity.retry_if_exception(passing))
        try:
            return retry(once)
        except Exception as error:
            if passing(error):
                raise StorageGone(f"{self.name} cannot be used: {public_line(error)}; nothing that was recorded is "
                                  "lost, go on with `search.py resume RUN` when it can") from error
            raise


def _patient(name: str) -> Callable[..., Any]:
    def method(self: Patient, *args: Any, **kwargs: Any) -> Any:
        return self._call(getattr(self.inner, name), *args, **kwargs)

    method.__name__ = name
    return method


# Every method of a storage is the same method of the inner one, tried again.
for _name in [name for name in vars(BaseStorage) if not name.startswith("_")]:
    setattr(Patient, _name, _patient(_name))
Patient.__abstractmethods__ = frozenset()


def patient(inner: BaseStorage, name: str, patience_s: float | None = None) -> BaseStorage:
    return Patient(inner, name, PATIENCE_S if patience_s is None else patience_s)  # type: ignore[abstract]
