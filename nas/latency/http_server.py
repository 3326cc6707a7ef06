"""The HTTP server of serve-device: uvicorn's, with a limit on how long a request may take to arrive."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from nas.latency.device_server import MOST_CONNECTIONS, SLOWEST_S


class Protocol(H11Protocol):
    """Closes a connection whose request has not begun to be answered in time: uvicorn keeps one that sends nothing, or
    half a head, for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits():
            self._watch()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _waits(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(SLOWEST_S, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self._waits() and not self.transport.is_closing():
            self.transport.close()


def server(app: FastAPI, **settings: Any) -> uvicorn.Server:
    """A server for the app; `settings` are uvicorn's."""
    return uvicorn.Server(uvicorn.Config(app, http=Protocol, ws="none", timeout_graceful_shutdown=5,
                                         limit_concurrency=MOST_CONNECTIONS, **settings))
