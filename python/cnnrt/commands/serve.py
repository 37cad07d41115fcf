"""`python -m cnnrt serve`: models over HTTP and gRPC, by the Open Inference Protocol."""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path

from ..errors import CnnrtError
from .common import count, seconds

HELP = "answer requests over HTTP and gRPC"
INSTALL = "serving needs further packages: pip install '.[serve]' in a checkout of cnnrt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serves models by the Open Inference Protocol, version 2: metadata, inference with JSON "
        "or binary tensors, images to classes, metrics, and a page to try them. Binds to this "
        "machine alone unless --host says otherwise."
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help=".bin and .onnx files, and folders of them")
    add("--host", default="127.0.0.1", help="the address to bind to (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="of HTTP (default: 8000)")
    add("--grpc-port", type=int, metavar="PORT", help="of gRPC (default: none)")
    add("--workers", type=count, default=1, help="processes (default: 1)")
    add("--threads", type=count, help="of each model's runs (default: the cores there are)")
    add("--max-batch", type=count, default=8, help="rows of a merged run (default: 8; 1: never)")
    add("--max-delay-ms", type=float, default=2.0, help="wait for others to merge (default: 2)")
    add("--queue", type=count, default=64, help="requests of a model that wait (default: 64)")
    add("--timeout", type=seconds, default=30.0, metavar="S", help="of an answer (default: 30)")
    add("--max-body-mb", type=count, default=64, help="largest request (default: 64)")
    add("--token-file", type=Path, metavar="FILE", help="holds a bearer token that is asked for")


def execute(options: argparse.Namespace) -> int:
    """Serves until a signal ends it.

    Raises:
        CnnrtError: there is nothing to serve.
        ImportError: the packages of the extra `serve` are missing.
        OSError: a file cannot be read, or the port is taken.
    """
    try:
        import uvicorn  # noqa: PLC0415  (an optional dependency)

        from ..serving.repository import Repository  # noqa: PLC0415
        from ..serving.settings import Settings  # noqa: PLC0415

        if options.grpc_port is not None:
            from ..serving import grpc  # noqa: F401, PLC0415
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from error

    token = ""
    if options.token_file is not None:
        token = options.token_file.read_text().strip()
        if not token:
            raise CnnrtError(f"{options.token_file}: holds no token")
    settings = Settings(
        models=tuple(options.models),
        threads=options.threads,
        max_batch=options.max_batch,
        max_delay=options.max_delay_ms / 1e3,
        queue=options.queue,
        timeout=options.timeout,
        max_body=options.max_body_mb << 20,
        token=token,
        grpc_port=options.grpc_port,
        host=options.host,
    )
    try:
        Repository(settings.models, settings.threads)
    except ValueError as error:
        raise CnnrtError(str(error)) from None
    settings.to_environment()
    with tempfile.TemporaryDirectory(prefix="cnnrt-metrics-") as folder:
        if options.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        uvicorn.run(
            "cnnrt.serving.app:create",
            factory=True,
            host=options.host,
            port=options.port,
            workers=options.workers,
            access_log=False,
            proxy_headers=False,  # nothing asks for the client's address
            log_config=_logging(),
            timeout_graceful_shutdown=int(options.timeout) + 1,
            timeout_keep_alive=15,
            http="cnnrt.serving.connections:Protocol",
            loop="cnnrt.serving.connections:Loop" if options.workers > 1 else "auto",
            ws="none",
        )
    return 0


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        line |= getattr(record, "line", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _logging() -> dict[str, object]:
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.JsonFormatter"}},
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": "INFO"},
    }
