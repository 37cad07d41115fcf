"""The HTTP server: routes of the Open Inference Protocol, images to classes, metrics, a page."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hmac
import json
import logging
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import __version__
from .classify import classify
from .document import openapi
from .errors import RequestError
from .protocol import LENGTH_HEADER, Bytes, InferRequest, format_infer, parse_infer, whole_number
from .service import Service
from .settings import Settings

LOG = logging.getLogger("cnnrt.serving")
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_repository(unload_dependents)"]
PAGE = Path(__file__).parent / "page.html"
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Paths that need no token: probes have none."""

Handler = Callable[[Request], Awaitable[Response]]


def create() -> Starlette:
    """The application, with the settings in the environment; uvicorn calls this."""
    gc.collect()
    gc.freeze()  # what is imported stays: collections need not look at it for every few requests
    return application(Settings.from_environment())


def application(settings: Settings) -> Starlette:
    """The application of one worker process.

    Raises:
        FileNotFoundError, ValueError: see `Repository`.
    """
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        grpc_server = None
        if settings.grpc_port is not None:
            from .grpc import start  # noqa: PLC0415  (a package of its own)

            grpc_server = await start(service)
        try:
            yield
        finally:
            if grpc_server is not None:
                await grpc_server.stop(settings.timeout)
            await service.close()

    app = Starlette(
        routes=_routes(),
        lifespan=lifespan,
        middleware=[
            Middleware(Guard, token=settings.token),
            Middleware(GZipMiddleware, minimum_size=1024),
        ],
        exception_handlers={
            RequestError: _refused,
            404: _not_found,
            405: _not_found,
            500: _failed,
        },
    )
    app.state.service = service
    return app


def _routes() -> list[Route]:
    model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    repository = "/v2/repository"
    return [
        *[Route(f"{path}/infer", _infer, methods=["POST"]) for path in (model, version)],
        Route(f"{model}/classify", _classify, methods=["POST"]),
        Route("/", _page),
        Route("/metrics", _metrics),
        Route("/openapi.json", _openapi),
        Route("/v2", _server),
        Route("/v2/health/live", _live),
        Route("/v2/health/ready", _ready),
        Route(f"{repository}/index", _index, methods=["POST"]),
        Route(f"{repository}/models/{{model}}/load", _load, methods=["POST"]),
        Route(f"{repository}/models/{{model}}/unload", _unload, methods=["POST"]),
        *[Route(path, _metadata) for path in (model, version)],
        *[Route(f"{path}/ready", _model_ready) for path in (model, version)],
    ]


# Health and metadata -----------------------------------------------------------------------------


async def _live(_: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = _service(request).ready()
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _server(_: Request) -> Response:
    return JSONResponse({"name": "cnnrt", "version": __version__, "extensions": EXTENSIONS})


async def _metadata(request: Request) -> Response:
    _check_model(request)
    return JSONResponse(_service(request).repository.metadata(*_named(request)))


async def _model_ready(request: Request) -> Response:
    name, version = _named(request)
    try:
        _service(request).repository.model(name, version)
    except RequestError as error:
        if error.status == 404:
            raise
        return JSONResponse({"name": name, "ready": False}, 503)
    return JSONResponse({"name": name, "ready": True})


async def _metrics(request: Request) -> Response:
    text = _service(request).metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(request: Request) -> Response:
    names = [entry["name"] for entry in _service(request).repository.index()]
    return JSONResponse(openapi(__version__, names))


async def _page(_: Request) -> Response:
    return HTMLResponse(
        PAGE.read_text(encoding="utf-8"),
        headers={
            "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'; img-src 'self' blob: data:",
            "X-Content-Type-Options": "nosniff",
        },
    )


# The repository ----------------------------------------------------------------------------------


async def _index(request: Request) -> Response:
    body = bytes(await _body(request))
    options = _json_object(body) if body.strip() else {}
    ready = options.get("ready", False)
    if not isinstance(ready, bool):
        raise RequestError(400, f"'ready' must be true or false, not {ready!r}")
    return JSONResponse(_service(request).repository.index(ready_only=ready))


async def _load(request: Request) -> Response:
    await _body(request)
    repository = _service(request).repository
    await asyncio.to_thread(repository.load, request.path_params["model"])
    return JSONResponse({})


async def _unload(request: Request) -> Response:
    await _body(request)
    _service(request).repository.unload(request.path_params["model"])
    return JSONResponse({})


# Inference ---------------------------------------------------------------------------------------


async def _infer(request: Request) -> Response:
    service, (name, version) = _service(request), _named(request)
    _check_model(request)  # before a body is read for nothing
    service.check_room(name)
    body = await _body(request)
    length = request.headers.get(LENGTH_HEADER)

    def read(specs: Any) -> InferRequest:
        return parse_infer(body, length, specs)

    asked, outputs = await service.infer(name, version, read, _gone(request))
    answer, json_bytes = format_infer(name, version or "1", asked, outputs)
    if json_bytes is None:
        return Response(answer, media_type="application/json")
    headers = {LENGTH_HEADER: str(json_bytes)}
    return Response(answer, media_type="application/octet-stream", headers=headers)


async def _classify(request: Request) -> Response:
    """The classes of an uploaded image, by the preprocessing and the labels in the file."""
    service, name = _service(request), request.path_params["model"]
    service.repository.model(name)
    service.check_room(name)
    top, mapped = request.query_params.get("top", "5"), request.query_params.get("map", "0")
    count = whole_number(top)
    if count is None or not 0 < count <= 1000:
        raise RequestError(400, f"top is {top!r}; expected a number from 1 to 1000")
    if mapped not in ("0", "1"):
        raise RequestError(400, f"map is {mapped!r}; expected 0 or 1")
    body = await _body(request)
    gone = _gone(request)
    return JSONResponse(await classify(service, name, body, gone, top=count, mapped=mapped == "1"))


# Bodies ------------------------------------------------------------------------------------------


async def _body(request: Request) -> Bytes:
    """The body, unpacked.

    Raises:
        RequestError: it is larger than allowed, too slow, or packed in a way that is not known.
    """
    settings = _service(request).settings
    limit = settings.max_body
    stated = request.headers.get("content-length", "0")
    size = whole_number(stated)
    if size is None or size > limit:
        raise RequestError(413, f"the body has {stated} bytes; at most {limit} are taken")
    try:
        data = _whole(request)
        if not data:
            with anyio.fail_after(settings.timeout):
                data = await _received(request, limit)
    except TimeoutError:
        raise RequestError(408, f"the body took longer than {settings.timeout:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "the client hung up before the body was complete") from None
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return data
    windows = {"gzip": 31, "x-gzip": 31, "deflate": 15}
    if encoding not in windows:
        raise RequestError(415, f"content encoding {encoding!r} is none of gzip, deflate")
    unpacker = zlib.decompressobj(windows[encoding])
    try:
        unpacked = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise RequestError(400, f"the body is not {encoding}: {error}") from None
    if len(unpacked) > limit:
        raise RequestError(413, f"the body unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise RequestError(400, f"the body is {encoding}, but cut short")
    return unpacked


async def _received(request: Request, limit: int) -> Bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise RequestError(413, f"the body has more than {limit} bytes")
        parts.append(part)
    return _whole(request) or b"".join(parts)


def _whole(request: Request) -> Bytes:
    """The body if `connections.Protocol` has it in one piece, else nothing. It is given once: the
    connection keeps the scope of its last request, and must not keep the body."""
    found: Bytes = request.scope.get("state", {}).pop("body", b"")
    return found


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the request is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestError(400, "the request is JSON, but no object")
    return found


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _gone(request: Request) -> Callable[[], bool]:
    """Asks if the client has hung up. Only `connections.Protocol` tells; under another server, such
    as Ray Serve's, no client ever has."""
    cycle = getattr(request.state, "cycle", None)
    return lambda: cycle is not None and bool(cycle.disconnected)


def _check_model(request: Request) -> None:
    """Refuses a model that is not there, with 400: the protocol's document has no 404 for metadata
    and inference."""
    try:
        _service(request).repository.model(*_named(request))
    except RequestError as error:
        raise RequestError(400, error.message) from None


def _named(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


# Errors, tokens and logs -------------------------------------------------------------------------


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse({"error": error.message}, error.status, headers)


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = "there is no such path" if status == 404 else f"{request.method} is not for this path"
    return JSONResponse({"error": said}, status, getattr(error, "headers", None))


async def _failed(_: Request, error: Exception) -> Response:
    LOG.error("request failed", exc_info=error)
    return JSONResponse({"error": "the server failed; its log says why"}, 500)


class Guard:
    """Demands the token, and writes one line of JSON to the log for each request."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._allowed(scope):
                await self.app(scope, receive, noted)
            else:
                await JSONResponse(
                    {"error": "a bearer token is needed"}, 401, {"WWW-Authenticate": "Bearer"}
                )(scope, receive, noted)
        finally:
            line = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round((time.monotonic() - began) * 1e3, 2),
            }
            LOG.info("request", extra={"line": line})

    def _allowed(self, scope: Scope) -> bool:
        if not self.token or scope["path"] in OPEN_PATHS:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, f"Bearer {self.token}".encode())
