"""Connections: limits to headers, bodies and answers in one piece, fair shares.

What is not HTTP is answered too.
"""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import sys
from contextlib import suppress
from typing import Any

import httptools
import numpy as np
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .settings import Settings

MAX_HEAD = 64 << 10
"""Bytes of headers, of a chunk's size or of trailers that may arrive without their end."""

_SPARE = memoryview(bytearray(32 << 10))
"""Takes what arrives and is no body of a stated length, until the parser has it."""


class Protocol(HttpToolsProtocol, asyncio.BufferedProtocol):
    """uvicorn's HTTP/1.1 with limits, with one piece for a body, and with one for an answer.

    uvicorn waits for the headers of a request without end, and takes any number of them. Here a
    client has `Settings.timeout` for them, or gets status 408, and `MAX_HEAD` bytes. uvicorn wakes
    the application for each 64 kB of a body, and copies them four times. Here one of a stated
    length is received where it stays, and the application finds it whole in its state, as `body`.
    The `cycle` of the request is there too, which says if the client has hung up.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes since the last end of headers, piece of a body, or end of a request."""
    _between = True
    """True before the end of a request's headers."""
    _body: memoryview | None = None
    """A body of a stated length; None: the application takes its pieces one by one."""
    _left = 0
    """Bytes of `_body` that have not arrived."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio's guess)
        if self._body is None:
            return _SPARE
        if self.cycle.response_complete:  # refused: nobody will read it
            self._body = _SPARE
            return _SPARE[: self._left]
        return self._body[-self._left :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._body is None:
            self.data_received(bytes(_SPARE[:nbytes]))
            return
        if not self.cycle.response_complete:  # else the rest has as long as the next request
            self._unset_keepalive_if_required()
        self._left -= nbytes
        if self._left == 0:
            self._new_parser()  # the old one still waits for the body
            self.on_message_complete()
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
                self._new_parser()

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

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
        if self.scope["method"] != "HEAD":  # that has an answer without a body
            self.cycle.transport = Joined(self.cycle)  # type: ignore[assignment]
        stated = [int(value) for name, value in self.headers if name == b"content-length"]
        if stated and 0 < stated[0] <= _settings().max_body:
            # Pages of it that nothing is written to take no memory. If there is not even room to
            # ask for them, the application takes the body in pieces.
            with suppress(MemoryError):
                self._body, self._left = np.empty(stated[0], np.uint8).data, stated[0]

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if self._body is None:
            super().on_body(body)
        else:
            begin = len(self._body) - self._left
            self._body[begin : begin + len(body)] = body
            self._left -= len(body)

    def on_message_complete(self) -> None:
        self._unread, self._between = 0, True
        if self.parser.should_upgrade():
            return
        if self._body is not None:
            self.scope["state"]["body"] = self._body
            self._body = None
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


class Joined:
    """The transport of an answer, which sends its head together with the first piece of its body.

    For an answer in two packets the system would wake the client twice.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None and self._cycle.response_started:  # not for "100 Continue"
            self._head = data
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


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
