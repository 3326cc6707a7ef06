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
