"""A device behind http://HOST:PORT: another machine runs `search.py serve-device`, this one asks it to measure.

A connection that is lost is asked again, under the same job, for a while; after that it is a failed measurement with
its reason, and never a slow network: latencies are what the other machine measured, and nothing here is timed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from nas.addresses import TOKEN, named
from nas.errors import DeviceGone, Failure, UsageError, error_of
from nas.latency.network import Network
from nas.latency.runtime import Session, Setting
from nas.runs.measurement import Measurement

if TYPE_CHECKING:
    import httpx

RETRY_S = 120.0  # without any answer
POLL_S = 15.0
_BUSY = (429, 502, 503, 504)


class _Busy(Exception):
    """The other machine answered, but not now."""


class Remote:
    """What stands for a Runtime where a device is described; it prepares nothing here."""

    limit_s = 0.0  # the other machine's own

    def __init__(self, url: str) -> None:
        self.url = self.name = url
        self.lock = url
        told = _described(url)
        self.precisions: tuple[str, ...] = tuple(told["precisions"])
        self.threads = bool(told["threads"])
        self.where = {"machine": told["machine"], "system": told["system"], "remote": told["device"]}
        self._version = f"{told['runtime']} on {told['machine']}"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return self._version

    def prepare(self, network: Network, setting: Setting) -> Session:
        raise UsageError(f"{self.url} measures over there; it cannot be the device of another serve-device")


@lru_cache(maxsize=8)
def _described(url: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(url, lambda client: client.get("/device"), patience_s=5.0)
    return found


def measure_there(url: str, networks: Sequence[Network], setting: Setting, *, protocol: str, budget_ms: float | None,
                  half_width: float, fresh: bool) -> list[Measurement]:
    """Have the networks measured in one session on the other machine.

    Raises:
        UsageError, NotAvailable, Failure: as measuring here does; Failure also when the connection stays lost.
    """
    key = uuid.uuid4().hex
    demand = {"id": key, "targets": [network.to_dict() for network in networks], "resolution": setting.resolution,
              "batch": setting.batch, "threads": setting.threads, "precision": setting.precision,
              "protocol": protocol, "budget_ms": budget_ms, "half_width": half_width, "fresh": fresh}
    answer: dict[str, Any] = {"state": "unknown"}
    while answer["state"] != "done":
        if answer["state"] == "unknown":  # new, or the other side was started again and knows nothing of it
            ask(url, lambda client: client.post("/jobs", json=demand))
        answer = ask(url, lambda client: client.get(f"/jobs/{key}", params={"wait_s": POLL_S}),
                     unknown={"state": "unknown"})
    if "error" in answer:
        raise error_of(answer["kind"], f"{url}: {answer['error']}")
    return [Measurement.from_dict(one | {"device": url, "runtime": f"{one['runtime']}, {one['device']} at {url}"})
            for one in answer["measurements"]]


def ask(url: str, question: Callable[[httpx.Client], httpx.Response], *, patience_s: float | None = None,
        unknown: dict[str, Any] | None = None) -> Any:
    """The JSON answer; asked again while the connection fails or the other side is busy.

    Raises:
        UsageError: refused, with the reason.
        NotAvailable: no answer within the patience.
    """
    import httpx
    import tenacity

    @tenacity.retry(retry=tenacity.retry_if_exception_type((httpx.TransportError, _Busy)), reraise=True,
                    wait=tenacity.wait_exponential_jitter(initial=0.2, max=10.0),
                    stop=tenacity.stop_after_delay(RETRY_S if patience_s is None else patience_s))
    def asked() -> httpx.Response:
        with httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(POLL_S + 30, connect=5.0)) as client:
            found = question(client)
        if found.status_code in _BUSY:
            raise _Busy(_detail(found))
        return found

    # A run from elsewhere names a device, too; the secret goes to hosts alone that the user named on this machine.
    token = os.environ.get(TOKEN) if named(url) else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        found = asked()
    except (httpx.TransportError, _Busy) as error:
        raise DeviceGone(f"no answer from {url} ({error or type(error).__name__}); is `search.py serve-device` "
                         "running there?") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise UsageError(f"--device {url}: {error}") from None
    if found.status_code == 404 and unknown is not None:
        return unknown
    if found.status_code >= 400:
        _refused(url, found)
    try:
        return found.json()
    except ValueError:
        raise Failure(f"{url} answers, but is no device of this program") from None


def _detail(found: httpx.Response) -> str:
    try:
        return str(found.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {found.status_code}"


def _refused(url: str, found: httpx.Response) -> NoReturn:
    if found.status_code == 401 and os.environ.get(TOKEN) and not named(url):
        raise UsageError(f"{url} asks for a token, and {TOKEN} is sent only to devices that were named on this "
                         f"machine; if the secret is meant for it, say so with --device {url}")
    if found.status_code == 401:
        raise UsageError(f"{url}: {_detail(found)}; set {TOKEN} to what it was set to over there")
    if found.status_code in (413, 415, 422, 400):
        raise UsageError(f"{url}: {_detail(found)}")
    raise Failure(f"{url} refuses: {_detail(found)}")
