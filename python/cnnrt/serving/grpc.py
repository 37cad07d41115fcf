"""The gRPC server of the Open Inference Protocol, with the protocol's own messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from open_inference.grpc import protocol as messages
from open_inference.grpc import service as stubs

from .. import __version__
from ..dtypes import BFLOAT16
from ..graph import TensorSpec
from .errors import RequestError
from .protocol import InferRequest, datatype, from_raw, from_values
from .repository import VERSION
from .service import Service

LOG = logging.getLogger("cnnrt.serving")
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field of `InferTensorContents` that holds the elements of a type."""


async def start(service: Service) -> Any:
    """A running server on the host and port of the settings; stop it with `stop(grace)`."""
    settings = service.settings
    limit = [
        ("grpc.max_receive_message_length", settings.max_body),
        ("grpc.max_send_message_length", -1),
    ]
    interceptors = [*([_Token(settings.token)] if settings.token else []), _Reader()]
    server = grpc.aio.server(interceptors=interceptors, options=limit)
    add: Any = stubs.add_GRPCInferenceServiceServicer_to_server
    add(_Servicer(service), server)
    address = f"{settings.host}:{settings.grpc_port}"
    server.add_insecure_port(address)
    await server.start()
    LOG.info("gRPC on %s", address)
    return server


class _Token(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without the bearer token, but for the two of health."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}"

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")

        self._refuse = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        import hmac  # noqa: PLC0415

        given = dict(details.invocation_metadata).get("authorization", "")
        open_call = details.method.rsplit("/", 1)[-1] in ("ServerLive", "ServerReady")
        if open_call or hmac.compare_digest(str(given).encode(), self._expected.encode()):
            return await continuation(details)
        return self._refuse


class _Reader(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Reads the messages of calls. grpc's own reader takes one that is damaged for a fault of the
    server: status UNKNOWN, and a traceback in the log."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None

        async def call(data: bytes, context: Any) -> Any:
            try:
                request = handler.request_deserializer(data)
            except DecodeError as error:
                await _abort(context, RequestError(400, f"the message cannot be read: {error}"))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            call, response_serializer=handler.response_serializer
        )


class _Servicer(stubs.GRPCInferenceServiceServicer):
    """The calls of the protocol."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._service.ready())

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        # No extension: the protocol's own calls leave out those of the repository.
        return messages.ServerMetadataResponse(name="cnnrt", version=__version__)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        try:
            self._service.repository.model(request.name, request.version)
        except RequestError as error:
            if error.status == 404:
                await _abort(context, error)
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        try:
            found = self._service.repository.metadata(request.name, request.version)
        except RequestError as error:
            await _abort(context, error)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        return messages.ModelMetadataResponse(
            name=found["name"],
            versions=found["versions"],
            platform=found["platform"],
            inputs=[tensor(**item) for item in found["inputs"]],
            outputs=[tensor(**item) for item in found["outputs"]],
        )

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        try:
            asked, outputs = await self._service.infer(
                request.model_name,
                request.model_version or None,
                lambda specs: _read(request, specs),
                context.cancelled,
            )
        except RequestError as error:
            await _abort(context, error)
        response = messages.ModelInferResponse(
            model_name=request.model_name, model_version=VERSION, id=asked.id
        )
        for name, (dtype, array) in outputs.items():
            response.outputs.add(name=name, datatype=datatype(dtype), shape=array.shape)
            kind = array.dtype if dtype == BFLOAT16 else array.dtype.newbyteorder("<")
            response.raw_output_contents.append(array.astype(kind, copy=False).tobytes())
        return response


def _read(request: Any, specs: list[TensorSpec]) -> InferRequest:
    """The arrays of a request, raw or as lists.

    Raises:
        RequestError: it does not fit the model.
    """
    known = {spec.name: spec for spec in specs}
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(400, f"{len(raw)} raw tensors for {len(request.inputs)} inputs")
    arrays = {}
    for i, item in enumerate(request.inputs):
        if item.name not in known:
            raise RequestError(
                400, f"the model has no input {item.name!r}; it takes {', '.join(known)}"
            )
        if item.name in arrays:
            raise RequestError(400, f"input {item.name!r} is given twice")
        given = item.name, item.datatype, list(item.shape), known[item.name]
        if raw:
            arrays[item.name] = from_raw(raw[i], *given)
        elif item.datatype in CONTENTS:
            values = getattr(item.contents, CONTENTS[item.datatype])
            arrays[item.name] = from_values(values, *given)
        else:
            raise RequestError(400, f"input {item.name!r}: {item.datatype} needs raw contents")
    return InferRequest(arrays, [output.name for output in request.outputs], id=request.id)


async def _abort(context: Any, error: RequestError) -> None:
    await context.abort(CODES.get(error.status, grpc.StatusCode.INTERNAL), error.message)
