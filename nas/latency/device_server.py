"""Measure for workers elsewhere: `search.py serve-device` on the machine that holds the device.

A request carries configurations or names of models in timm, never code or weights. It becomes a job under an
identifier that the client chose: asking again after a lost connection finds the same job, measured once. Jobs are
measured one after the other.
"""

from __future__ import annotations

import asyncio
import hmac
import queue
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from nas.errors import Failure, UsageError, kind_of
from nas.latency.cache import machine, system
from nas.latency.devices import check_device, check_setting, runtime
from nas.latency.network import Needs, Network
from nas.latency.runtime import HALF_WIDTH, VERSIONS, Setting
from nas.latency.service import measure_many

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 256 * 1024  # of a request; sixteen configurations take a twentieth
MOST_TARGETS, MOST_WAITING, KEPT = 16, 64, 512
MOST_PARAMS_M, MOST_MEMORY_GB = 500.0, 4.0
ABANDONED_S = 180.0  # a job that nobody asked after for so long is not measured
SLOWEST_S = 20.0  # until the head of a request, and then its body, is here
MOST_CONNECTIONS = 512  # at once; more are told to come again
LONGEST_WAIT_S = 20.0  # of one question after a job


class Demand(BaseModel):
    """The body of POST /jobs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    targets: list[dict[str, Any] | str] = Field(min_length=1, max_length=MOST_TARGETS)
    resolution: int = Field(ge=32, le=2048)
    batch: int = Field(1, ge=1, le=256)
    threads: int = Field(1, ge=1, le=256)
    precision: str | None = Field(None, max_length=40)
    protocol: str = Field("warm", max_length=40)
    budget_ms: float | None = Field(None, gt=0)
    half_width: float = Field(HALF_WIDTH, ge=0.002, le=0.5)
    fresh: bool = False


@dataclass
class Job:
    demand: Demand
    state: str = "waiting"
    answer: dict[str, Any] = field(default_factory=dict)
    asked: float = field(default_factory=time.monotonic)


class Desk:
    """The queue and the one thread that measures."""

    def __init__(self, device: str) -> None:
        check_device(device)
        self.device = device
        self.jobs: dict[str, Job] = {}
        self.lock = threading.Lock()
        self.queue: queue.Queue[Job | None] = queue.Queue()
        self.measured = 0
        threading.Thread(target=self._work, daemon=True).start()

    def waiting(self) -> int:
        return sum(job.state in ("waiting", "running") for job in list(self.jobs.values()))

    def take(self, demand: Demand) -> Job:
        """The job of this demand, new or known.

        Raises:
            HTTPException: the queue is full, or the demand asks for more than a request may.
        """
        for target in demand.targets:
            _check(target, demand)
        with self.lock:
            if (known := self.jobs.get(demand.id)) is not None:
                known.asked = time.monotonic()
                return known
            if self.waiting() >= MOST_WAITING:
                raise HTTPException(503, f"{MOST_WAITING} measurements wait already", {"Retry-After": "5"})
            try:
                if demand.protocol not in VERSIONS:
                    raise UsageError(f"--protocol {demand.protocol}: expected one of {', '.join(VERSIONS)}")
                chosen = runtime(self.device)
                check_setting(chosen, Setting(demand.resolution, demand.batch, demand.threads,
                                              demand.precision or chosen.precisions[0]))
            except UsageError as error:
                raise HTTPException(422, str(error)) from None
            for old in [key for key, job in self.jobs.items() if job.state == "done"][:-KEPT]:
                del self.jobs[old]
            job = self.jobs[demand.id] = Job(demand)
            self.queue.put(job)
            return job

    def _work(self) -> None:
        while (job := self.queue.get()) is not None:
            if time.monotonic() - job.asked > ABANDONED_S:
                job.answer, job.state = {"error": "nobody asked after it any more", "kind": "failure"}, "done"
                continue
            job.state = "running"
            try:
                asked = job.demand.model_dump(exclude={"id", "targets"})
                targets = [Network.of(target).target for target in job.demand.targets]
                found = measure_many(targets, self.device, **asked)
                job.answer = {"measurements": [one.to_dict() for one in found]}
                self.measured += len(found)
            except Exception as error:
                kind = kind_of(error)
                words = str(error) if isinstance(error, (Failure, UsageError)) else f"{type(error).__name__}: {error}"
                job.answer = {"error": words[:500], "kind": kind}
            job.state = "done"


def _check(target: dict[str, Any] | str, demand: Demand) -> None:
    """Refuse what is no network, or none that this machine can hold.

    Raises:
        HTTPException: no network, or too large.
    """
    try:
        network = Network.of(target)
    except (ValueError, TypeError) as error:
        raise HTTPException(422, str(error)[:300]) from None
    needs = _needs(network, demand.resolution)
    activations_m = needs.activations_m * demand.batch
    if needs.params_m > MOST_PARAMS_M or 4e-3 * activations_m > MOST_MEMORY_GB:
        raise HTTPException(413, f"a network of {needs.params_m:.0f} M parameters and {activations_m:.0f} M "
                                 f"activations is refused: at most {MOST_PARAMS_M:g} M parameters and "
                                 f"{MOST_MEMORY_GB:g} GB of activations")


def _needs(network: Network, resolution: int) -> Needs:
    try:
        return network.needs(resolution)
    except (UsageError, Failure) as error:
        raise HTTPException(422, str(error)[:300]) from None


class KnownHosts:
    """Answers only requests whose Host header names one of the hosts ("*": any), so that no web page elsewhere reaches
    this machine under a name of its own. Starlette's reads "[::1]:8765" as the host "["."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self.hosts:
            given = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            try:
                host = urllib.parse.urlsplit(f"//{given}").hostname
            except ValueError:
                host = None
            # Nothing may stand between the brackets of an IPv6 address and its port.
            if host not in self.hosts or not re.fullmatch(r"(\[[^\[\]@]*\]|[^\[\]:@]*)(:\d*)?", given):
                await PlainTextResponse("another host was asked for", status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def create_app(device: str, *, token: str | None = None, hosts: tuple[str, ...] = ("*",)) -> FastAPI:
    """The service around one device. With a token, every question but /health must carry it.

    Raises:
        UsageError, NotAvailable: the device cannot measure here.
    """
    app = FastAPI(title="FastViT configuration explorer: a device", docs_url=None, redoc_url=None, openapi_url=None)
    desk = Desk(device)
    begun = time.monotonic()
    app.add_middleware(KnownHosts, hosts=hosts)

    def admit(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the token is missing or wrong")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "device": desk.device, "waiting": desk.waiting(), "measured": desk.measured,
                "up_s": round(time.monotonic() - begun)}

    @app.get("/device")
    async def describe(request: Request) -> dict[str, Any]:
        admit(request)
        chosen = runtime(desk.device)
        return {"device": desk.device, "runtime": chosen.version(), "machine": machine(), "system": system(),
                "precisions": list(chosen.precisions), "threads": chosen.threads, "protocols": VERSIONS}

    @app.post("/jobs", status_code=202)
    async def submit(request: Request) -> dict[str, Any]:
        admit(request)
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise HTTPException(415, "expected application/json")  # what no web page can send from elsewhere
        body = b""
        try:
            async with asyncio.timeout(SLOWEST_S):
                async for part in request.stream():
                    body += part
                    if len(body) > MOST_BYTES:
                        raise HTTPException(413, f"a request of more than {MOST_BYTES} bytes is refused")
        except TimeoutError:
            raise HTTPException(408, f"the request took more than {SLOWEST_S:g} s", {"Connection": "close"}) from None
        try:
            demand = Demand.model_validate_json(body)
        except ValueError as error:
            raise HTTPException(422, str(error)[:500]) from None
        return {"id": demand.id, "state": (await asyncio.to_thread(desk.take, demand)).state}

    @app.get("/jobs/{key}")
    async def job(key: str, request: Request, wait_s: float = 0.0) -> dict[str, Any]:
        admit(request)
        found = desk.jobs.get(key)
        if found is None:
            raise HTTPException(404, "no such job; it may have been asked for before a restart")
        until = time.monotonic() + min(max(wait_s, 0.0), LONGEST_WAIT_S)
        while found.state != "done" and time.monotonic() < until:
            found.asked = time.monotonic()
            await asyncio.sleep(0.05)
        found.asked = time.monotonic()
        return {"id": key, "state": found.state} | found.answer

    app.state.desk = desk
    return app
