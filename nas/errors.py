"""The errors that end a command in one sentence instead of a traceback."""


class UsageError(ValueError):
    """The user asked for something that cannot be: the message names the value, what was expected and what to do.

    Exit code 2.
    """


class Failure(RuntimeError):
    """Something failed while running; the message says what and what to do. Exit code 1."""


class NotAvailable(Failure):
    """An optional part is missing on this machine; the message says what it needs."""


class DeviceGone(NotAvailable):
    """A device that measured before does not answer any more; no fault of what was to be measured."""


# How an error crosses from one process to another: the most special kind first.
_KINDS: dict[str, type[Exception]] = {"usage": UsageError, "not_available": NotAvailable, "failure": Failure}


def kind_of(error: Exception) -> str:
    """The word for an error's kind; whatever is none of ours is a failure."""
    return next((name for name, kind in _KINDS.items() if isinstance(error, kind)), "failure")


def error_of(kind: object, words: str) -> Exception:
    """The error of that kind; a kind that nobody here knows is a failure."""
    return _KINDS.get(str(kind), Failure)(words)


def first_line(error: BaseException) -> str:
    """What went wrong at the bottom of it, in one line, for tables and messages."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = details() if callable(details := getattr(error, "details", None)) else str(error)  # gRPC's have details
    return (text.strip() or type(error).__name__).splitlines()[0][:300]
