"""Connections: the time and the bytes that headers may take, bodies received whole, the answer to
what is not HTTP, fair shares."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import Settings

MAX_HEAD = 64 << 10
"""Bytes of headers, of a chunk's size or of trailers that may arrive without their end."""


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits, and with one piece for a body.

    uvicorn waits for the headers of a request without end, and takes any number of them. Here a
    client has `Settings.timeout` for them, or gets status 408, and `MAX_HEAD` bytes. uvicorn wakes
    the application for each 64 kB of a body. Here one of a stated length is handed over whole. The
    application finds the request's `cycle` in its state, which says if the client has hung up.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes since the last end of headers, piece of a body, or end of a request."""
    _between = True
    """True before the end of a request's headers."""
    _parts: list[bytes] | None = None
    """The pieces of the body; None: the application takes them one by one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            self._feed(data)
            if self._unread > MAX_HEAD:
                self.send_400_response("")
        except httptools.HttpParserError:
            self.send_400_response("")
        self._watch()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol, and a body is lost. Some
                # clients ask for HTTP/2 in this way. The request is read again without that.
                method = self.parser.get_method()
                if method == b"CONNECT":
                    raise httptools.HttpParserError("this is no proxy") from None
                lines = [b"%s %s HTTP/1.1" % (method, self.url)]
                lines += [b"%s: %s" % pair for pair in self.headers if pair[0] != b"upgrade"]
                data = b"\r\n".join([*lines, b"", data[upgrade.args[0] :]])
                self.parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    # Events of the parser -----------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._unread, self._between = 0, False
        if self.parser.should_upgrade():
            return  # to `_feed`
        super().on_headers_complete()
        self.scope["state"]["cycle"] = self.cycle
        stated = [int(value) for name, value in self.headers if name == b"content-length"]
        whole = stated and stated[0] <= _settings().max_body
        self._parts = [] if whole else None

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if self._parts is None:
            super().on_body(body)
        elif self.cycle.response_complete:
            self._parts.clear()
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        self._unread, self._between = 0, True
        if self.parser.should_upgrade():
            return
        if self._parts is not None:
            # Of bytes, uvicorn makes no further copy.
            self.cycle.body = b"".join(self._parts)  # type: ignore[assignment]
            self._parts = None
        super().on_message_complete()

    # Refusals -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Starts the clock of a request whose headers are not complete, or stops it."""
        idle = self.cycle is None or self.cycle.response_complete
        if not (self._between and idle) or self.transport.is_closing():
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(_settings().timeout, self._refuse)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        self._end("408 Request Timeout", f"the headers took longer than {_settings().timeout:g} s")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's sentence)
        """Ends a connection on which something else than HTTP arrived. If that follows a whole
        request, the request is answered first. If it is in the body of one, the application learns
        that its client is gone."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self._end("400 Bad Request", "the request is not HTTP/1.1, or its headers are too long")

    def _end(self, status: str, sentence: str) -> None:
        """Sends an answer in place of the application's, and closes the connection."""
        if self.transport.is_closing():
            return
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
def _settings() -> Settings:
    return Settings.from_environment()
