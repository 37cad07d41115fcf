"""Profiles of a session's runs, in the file format of Chrome's tracing page."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime
from typing import Any

from ...model import Model, plan_for
from ...storage.files import atomic_write


class Profiler:
    """Collects events of a session and writes them once."""

    def __init__(self, prefix: str, loaded_ns: int) -> None:
        self.start_ns = time.monotonic_ns()
        self._prefix = prefix
        self._lock = threading.Lock()
        self._events = [self._event("Session", "model_loading", 0, loaded_ns, {})]

    def _event(self, cat: str, name: str, begin: int, taken: int, args: Any) -> dict[str, Any]:
        return {
            "cat": cat,
            "pid": os.getpid(),
            "tid": threading.get_ident(),
            "dur": taken // 1000,
            "ts": begin // 1000,
            "ph": "X",
            "name": name,
            "args": args,
        }

    def record(self, model: Model, arrays: list[Any], begin: int, taken: int) -> None:
        """Notes a run, and where the time of one like it goes, step by step."""
        plan = plan_for(model, arrays)
        spans = plan.trace(arrays)
        events = [self._event("Session", "model_run", begin, taken, {})]
        for step, info in enumerate(plan.describe()):
            for thread, (first, last) in enumerate(spans[:, step].tolist()):
                if last < 0:
                    continue
                args = {
                    "op_name": info.kernel,
                    "node": info.node,
                    "provider": "CPUExecutionProvider",
                    "thread": thread,
                }
                name = f"{info.node}_kernel_time"
                events.append(self._event("Node", name, begin + first, last - first, args))
        with self._lock:
            self._events += events

    def write(self) -> str:
        """Writes the file, an event a line, and returns its name: the prefix, date and time."""
        path = f"{self._prefix}{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}.json"
        with self._lock:
            lines = ",\n".join(map(json.dumps, self._events))
        atomic_write(path, [f"[\n{lines}\n]\n".encode()])
        return path
