"""Addresses of storages and devices: read by a parser, shown without secrets, and which hosts the user named here.

A URL of a database may hold a password in its user part, in its query, or anywhere if it was mistyped. So nothing of
an address that cannot be read is ever shown, and of one that can only the kind, the host and the database.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.files import cache_folder

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

TOKEN = "FASTVIT_EXPLORER_TOKEN"
KINDS = {"postgresql": "psycopg", "mysql": "pymysql", "grpc": ""}  # of storages, with the driver of each
GRPC_PORT = 13000
_OTHER_NAMES = {"postgres": "postgresql", "mariadb": "mysql"}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%\w+)?")
_DATABASE = re.compile(r"[\w.$ -]+")
_NO_SECRETS = {"host", "hostaddr", "port", "dbname", "sslmode", "charset", "connect_timeout", "application_name"}
_KEYS = {"user", "password", "passwd", "passfile", "service", "options"}
_SHORTEST = 4  # letters of a secret that is looked for in other texts; shorter ones are parts of words
_secrets: set[str] = set()


def storage_url(text: str) -> URL:
    """The URL of a storage that several machines share. What it holds of secrets is hidden by `hide` from then on.

    Raises:
        UsageError: it is none; says nothing of it but what is wrong.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        kind, _, driver = url.drivername.partition("+")
    except ValueError:
        _secrets.add(text)
        raise UsageError("--storage: the port is no number; write / @ : ? # and spaces in a password as %2F %40 %3A "
                         "%3F %23 and %20") from None
    except ArgumentError:
        kind = driver = ""
    kind = _OTHER_NAMES.get(kind, kind)
    if kind not in KINDS:
        _secrets.add(text)
        raise UsageError("--storage: expected postgresql://, mysql:// or grpc://HOST:PORT (`search.py serve-storage` "
                         "starts the last one); a run without --storage keeps its trials in its folder")
    _remember(text, url)
    if "?" in text.rpartition("@")[0]:  # a parser takes all before the last @ for the user's part
        raise UsageError(f"--storage: an @ stands in the query, which cannot be told from the password; expected "
                         f"{kind}://USER:PASSWORD@HOST/DATABASE with ? and @ in a password as %3F and %40")
    host, database = url.host or "", url.database or ""
    if (host and not _HOST.fullmatch(host)) or (database and not _DATABASE.fullmatch(database)):
        raise UsageError(f"--storage: the address cannot be told from the password; expected {kind}://USER:PASSWORD@"
                         "HOST/DATABASE with / @ : ? # in a password as %2F %40 %3A %3F %23")
    if kind == "grpc":
        if not host or database or url.query:
            raise UsageError("--storage: expected grpc://HOST:PORT")
        return url.set(drivername=kind, username=None, password=None, port=url.port or GRPC_PORT)
    if not database:
        raise UsageError(f"--storage {kind}://: the name of the database is missing; expected {kind}://HOST/DATABASE")
    return url.set(drivername=f"{kind}+{driver or KINDS[kind]}")


def shown(url: URL) -> str:
    """Kind, host and database of a storage: what may stand in a run, in messages and in a study."""
    query_host = url.query.get("host", "")
    host = url.host or (query_host if isinstance(query_host, str) and _HOST.fullmatch(query_host) else "")
    host = f"[{host}]" if ":" in host else host
    return (f"{url.drivername.partition('+')[0]}://{host}" + (f":{url.port}" if url.port else "")
            + (f"/{url.database}" if url.database else ""))


def _remember(text: str, url: URL) -> None:
    if url.username or url.query:
        _secrets.add(text)
    found = [url.password, *(value for key, value in url.query.items() if key not in _NO_SECRETS),
             *(key for key in url.query if key not in _NO_SECRETS | _KEYS)]  # the rest of a password with & in it
    for value in found:
        for one in (value,) if isinstance(value, str) else value or ():
            if len(one) >= _SHORTEST:
                _secrets.update((one, urllib.parse.quote(one), urllib.parse.quote(one, safe=""),
                                 urllib.parse.quote_plus(one), repr(one)[1:-1], json.dumps(one)[1:-1]))


def hide(text: str) -> str:
    """Any text with the secrets that this process knows left out: those of storages, and the token of devices."""
    token = os.environ.get(TOKEN, "")
    for secret in sorted((*_secrets, *([token] if len(token) >= _SHORTEST else [])), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


# ---------------------------------------------------------------------------------------------- devices

def is_address(device: str) -> bool:
    """Whether another machine measures: an address instead of a name."""
    return "://" in device


def device_address(device: str) -> str:
    """The address as it is stored and shown.

    Raises:
        UsageError: it is none, or holds more than host, port and path: what may be a secret is not repeated.
    """
    expected = "expected http://HOST:PORT"
    if "@" in device:
        raise UsageError(f"--device: an address with a user or password in it would be stored with the run; "
                         f"{expected}, and the secret in {TOKEN}")
    try:
        parts = urllib.parse.urlsplit(device)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"--device: the host or port of the address cannot be read; {expected}") from None
    if parts.scheme not in ("http", "https") or not host or not _HOST.fullmatch(host):
        raise UsageError(f"--device: an address that is none; {expected}")
    if parts.query or parts.fragment or not re.fullmatch(r"[\w./~-]*", parts.path):
        raise UsageError(f"--device {parts.scheme}://{host}: an address with more than host, port and path; {expected}")
    return urllib.parse.urlunsplit(parts).rstrip("/")


def name_device(device: str) -> None:
    """Note that the user named this address on this machine: it may be told the token from now on.

    A run from elsewhere names a device, too, and must not choose who is sent the user's secret.

    Raises:
        UsageError: the address is none.
    """
    path = _note(device_address(device))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_origin(device) + "\n", encoding="utf-8")


def named(device: str) -> bool:
    """Whether the user named the host and port of this address on this machine."""
    return _note(device_address(device)).exists()


def _origin(device: str) -> str:
    parts = urllib.parse.urlsplit(device)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def _note(device: str) -> Path:
    return cache_folder("named-devices") / hashlib.sha256(_origin(device).encode()).hexdigest()[:24]
