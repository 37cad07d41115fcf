"""Models, their queues, and one inference, for HTTP and gRPC alike."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..dtypes import FLOAT32, DType
from ..graph import Array
from .batching import Batcher
from .errors import RequestError
from .metrics import Metrics
from .protocol import DATATYPES, InferRequest
from .repository import Repository
from .settings import Settings

Answer = dict[str, tuple[DType, Array]]
"""The outputs of a request by name."""


class Service:
    """The models of one process, and their runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.repository = Repository(settings.models, settings.threads)
        self.metrics = Metrics()
        self.closing = False
        self._batchers: dict[str, Batcher] = {}

    def start(self) -> None:
        """Begins to load the models; the server is live meanwhile, and not ready."""
        threading.Thread(target=self.repository.load_all, name="cnnrt load", daemon=True).start()

    async def close(self) -> None:
        """Answers nothing more."""
        self.closing = True
        await asyncio.gather(*(batcher.close() for batcher in self._batchers.values()))

    def ready(self) -> bool:
        return not self.closing and self.repository.ready()

    async def infer(
        self,
        name: str,
        version: str | None,
        read: Callable[[Any], InferRequest],
        gone: Callable[[], bool],
        inner: str = "",
    ) -> tuple[InferRequest, Answer]:
        """Answers one request, counted and timed.

        Args:
            name: of the model.
            version: of the model; None: the only one.
            read: makes the request from the model's inputs.
            gone: asks whether the client has hung up.
            inner: an inner tensor, in place of the outputs; no request can name one.

        Raises:
            RequestError: the request cannot be answered.
        """
        began, code = time.monotonic(), "500"
        try:
            model = self.repository.model(name, version)
            request = read([*model.inputs, *model.optional_inputs])
            known = {spec.name: spec for spec in model.outputs}
            names = tuple(request.outputs or known)
            for output in names:
                if output not in known:
                    raise RequestError(
                        400, f"the model has no output {output!r}; it has {', '.join(known)}"
                    )
            if len(set(names)) < len(names):
                raise RequestError(400, f"an output is named twice: {', '.join(names)}")
            missing = [s.name for s in model.inputs if s.name not in request.inputs]
            if missing:
                raise RequestError(400, f"inputs are missing: {', '.join(missing)}")
            for spec in model.inputs:
                shape = request.inputs[spec.name].shape
                if not spec.accepts(shape):
                    wanted = [d if isinstance(d, int) else -1 for d in spec.shape]
                    raise RequestError(
                        400, f"input {spec.name!r} takes shape {wanted}, not {list(shape)}"
                    )
            if any(
                known[n].kind != "tensor" or known[n].dtype.name not in DATATYPES for n in names
            ):
                raise RequestError(400, f"model {name!r} has outputs that are no tensors")
            if inner:
                (values,) = await self.batcher(name).run(model, request.inputs, (inner,), gone)
                code = "200"
                return request, {inner: (FLOAT32, values)}
            results = await self.batcher(name).run(model, request.inputs, names, gone)
            code = "200"
            return request, {n: (known[n].dtype, y) for n, y in zip(names, results, strict=True)}
        except RequestError as error:
            code = str(error.status)
            raise
        finally:
            label = name if code != "404" else ""  # names of no model would be endless labels
            self.metrics.requests.labels(label, code).inc()
            if code == "200":
                self.metrics.latency.labels(name).observe(time.monotonic() - began)

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        """Counts a request that is refused before its inference begins."""
        try:
            yield
        except RequestError as error:
            self.metrics.requests.labels(name, str(error.status)).inc()
            raise

    def check_room(self, name: str) -> None:
        """Refuses a request that would find the queue full, and counts it: see
        `Batcher.check_room`."""
        with self.counting(name):
            self.batcher(name).check_room()

    def batcher(self, name: str) -> Batcher:
        """The queue of a model."""
        if name not in self._batchers:
            self._batchers[name] = Batcher(name, self.settings, self.metrics)
        return self._batchers[name]
