"""Settings of a server, which its worker processes read from the environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "CNNRT_SERVE"
"""The variable that carries the settings to worker processes."""


@dataclass(frozen=True)
class Settings:
    """Settings of `python -m cnnrt serve`; times in seconds."""

    models: tuple[str, ...]
    """Files, and folders of files."""
    threads: int | None = None
    """Threads of each model's runs; None: `cnnrt.get_num_threads()`."""
    max_batch: int = 8
    """Rows of a merged run, if results do not depend on the batch."""
    max_delay: float = 0.002
    """Maximum time that a run waits for further requests, if several are in flight."""
    queue: int = 64
    """Requests of a model that may wait; further ones get status 429."""
    timeout: float = 30.0
    """Maximum time from the arrival of a request to its answer."""
    max_body: int = 64 << 20
    """Bytes of a request, unpacked."""
    token: str = ""
    """The bearer token that requests must carry; "": none."""
    grpc_port: int | None = None
    host: str = "127.0.0.1"

    def to_environment(self) -> None:
        """Hands the settings to processes that are started from now on."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    @staticmethod
    def from_environment() -> Settings:
        """The settings that a parent process handed over."""
        fields = json.loads(os.environ[VARIABLE])
        return Settings(**{**fields, "models": tuple(fields["models"])})
