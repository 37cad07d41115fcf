"""Connections: the time that headers may take, the answer to what is not HTTP, fair shares."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .settings import Settings


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a limit. uvicorn waits for the headers of a request without end. Here
    a client has `Settings.timeout` for them, or gets status 408."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Starts the clock of a request whose headers are not complete, or stops it."""
        if self.conn.their_state is not h11.IDLE:
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(_seconds(), self._refuse)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        self._end("408 Request Timeout", f"the headers took longer than {_seconds():g} s")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's sentence)
        """Ends a connection on which something else than HTTP arrived. If that is in the body of a
        request, the application learns that its client is gone. uvicorn would let it answer too,
        and log the error that this makes."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._end("400 Bad Request", "the request is not HTTP/1.1, or its headers are too long")
        else:
            self.transport.close()

    def _end(self, status: str, sentence: str) -> None:
        """Sends an answer in place of the application's, and closes the connection."""
        body = json.dumps({"error": sentence}).encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop for one worker of several. They share a socket, and the worker that wakes
    first would take all connections that wait. On Linux each listens on a socket of its own here,
    and the system spreads the connections."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        shared = options.get("sock")
        if shared is not None and sys.platform == "linux":
            own = socket.socket(shared.family, shared.type, shared.proto)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                own.setsockopt(socket.SOL_SOCKET, option, 1)
            own.bind(shared.getsockname())
            options["sock"] = own
        return await super().create_server(*args, **options)


@functools.cache
def _seconds() -> float:
    return Settings.from_environment().timeout
