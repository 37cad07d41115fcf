"""Counters of a server in the format of Prometheus."""

from __future__ import annotations

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one worker process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        model = ["model"]
        self.requests = Counter(
            "cnnrt_requests", "Answered requests.", ["model", "code"], registry=self._registry
        )
        self.latency = Histogram(
            "cnnrt_request_seconds",
            "From arrival to answer.",
            model,
            buckets=SECONDS,
            registry=self._registry,
        )
        self.batch = Histogram(
            "cnnrt_batch_rows", "Rows of a run.", model, buckets=ROWS, registry=self._registry
        )
        self.queue = Gauge(
            "cnnrt_queue",
            "Requests that wait.",
            model,
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "cnnrt_refused", "Requests refused by a full queue.", model, registry=self._registry
        )
        self.cancelled = Counter(
            "cnnrt_cancelled", "Requests whose client hung up.", model, registry=self._registry
        )

    def text(self) -> bytes:
        """The counters of all workers."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
