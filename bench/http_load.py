"""Server processes and clients of HTTP for `serving.py`.

The clients are threads of this process with a connection each. They send the next request when the
last is answered. An answer of which the right bytes are known is compared with them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from processes import command_line, descendants, stat
from scaling import make_images

import cnnrt

PEER = Path(__file__).with_name("fastapi_server.py")
WRK = Path(__file__).with_name("wrk.lua")

Request = tuple[bytes, bytes | None]
"""What is sent, and the end of the right answer's body; None: any."""


# Servers -----------------------------------------------------------------------------------------


class Server:
    """A server process on a free port, which answers `ready` with 200 when it can work."""

    def __init__(self, command: Sequence[str], ready: str) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port: int = s.getsockname()[1]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (read if it does not start)
        self.process = subprocess.Popen([*command, "--port", str(self.port)], stderr=self.log)
        request = f"GET {ready} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        end = time.monotonic() + 90
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if Client(self.port).ask(request)[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        self.process.kill()
        self.log.seek(0)
        raise SystemExit(f"the server does not start: {self.log.read()[-2000:].decode()}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def processes(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def workers(self) -> list[int]:
        """The worker processes, if there are several."""
        return [pid for pid in self.processes()[1:] if b"spawn_main" in command_line(pid)]

    def cpu_seconds(self) -> float:
        """CPU time so far; processes that have ended are not counted."""
        seconds = 0.0
        for pid in self.processes():
            with suppress(OSError):
                seconds += stat(pid)[1]
        return seconds

    def megabytes(self) -> float:
        """The resident memory; pages that processes share are counted once for each."""
        total = 0
        for pid in self.processes():
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return total * 1024 / 1e6


def cnnrt_server(model: Path, *options: str) -> Server:
    return Server(
        [sys.executable, "-m", "cnnrt", "serve", str(model), *options], "/v2/health/ready"
    )


def peer_server(model: Path, threads: int) -> Server:
    """`fastapi_server.py` with the same network."""
    with tempfile.TemporaryDirectory(prefix="cnnrt-serving-") as folder:
        onnx = Path(folder) / "model.onnx"
        command = [sys.executable, "-m", "cnnrt", "convert", str(model), str(onnx)]
        subprocess.run(command, check=True, capture_output=True)
        # It has read the file when it is ready.
        return Server([sys.executable, str(PEER), str(onnx), "--threads", str(threads)], "/")


# Requests ----------------------------------------------------------------------------------------


def http(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def inferences(path: Path, count: int, rows: Sequence[int] = (1,)) -> list[Request]:
    """Requests with binary tensors of random numbers, and the bytes of `model(x)`."""
    model, random = cnnrt.load(path), np.random.default_rng(0)
    spec, output = model.inputs[0], model.outputs[0].name
    found: list[Request] = []
    for i in range(count):
        x = random.random((rows[i % len(rows)], *map(int, spec.shape[1:])), np.float32)
        tensor = {"name": spec.name, "datatype": "FP32", "shape": x.shape}
        document = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        }
        text = json.dumps(document).encode()
        length = f"Inference-Header-Content-Length: {len(text)}\r\n"
        body = text + x.tobytes()
        found.append((http(f"/v2/models/{path.stem}/infer", body, length), model(x).tobytes()))
    return found


def photos(path: Path, count: int) -> list[Request]:
    """Requests with JPEG files of 256 x 256 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = [Path(file).read_bytes() for file in make_images(Path(folder), count, 256)]
    return [(http(f"/v2/models/{path.stem}/classify?top=1", body), None) for body in bodies]


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self.socket.getsockname()[1]

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            OSError: the connection ended before the answer was whole.
        """
        self.socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        (length,) = [int(n[15:]) for n in lines if n.startswith(b"content-length:")]
        while len(body) < length:
            body += self._more()
        return int(head.split(b" ", 2)[1]), body

    def _more(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


@dataclass
class Load:
    """What clients saw."""

    codes: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: list[tuple[int, float]] = field(default_factory=list)
    """Port of the client and time of sending of each request whose answer did not come whole."""
    good: list[tuple[float, float]] = field(default_factory=list)
    """Times of sending and of the answer of each request with status 200."""
    seconds: float = 0.0

    def rate(self) -> float:
        return len(self.good) / self.seconds

    def milliseconds(self, percent: float) -> float:
        return float(1e3 * np.percentile([b - a for a, b in self.good], percent))

    def summary(self) -> Summary:
        others = self.wrong + len(self.lost) + sum(n for c, n in self.codes.items() if c != 200)
        times = self.milliseconds(50), self.milliseconds(99)
        return Summary(len(self.good), self.rate(), *times, others)


@dataclass
class Summary:
    """Answers with status 200, per second too, their times in ms, and all other ends of requests:
    lost, refused or wrong."""

    good: int
    rate: float
    p50: float
    p99: float
    others: int


def measured(port: int, requests: Sequence[Request], clients: int, seconds: int) -> Summary:
    """Load from wrk, or from threads of this process if wrk is not installed. wrk takes a fifth of
    the CPU time of these threads, which the server lacks on the same cores."""
    if shutil.which("wrk") is None:
        return load(port, requests, clients, seconds=seconds).summary()
    threads = min(clients, len(requests), 4)
    with tempfile.TemporaryDirectory(prefix="cnnrt-wrk-") as folder:
        for i, (request, right) in enumerate(requests[:threads]):
            (Path(folder) / f"request.{i}").write_bytes(request)
            if right is not None:
                (Path(folder) / f"right.{i}").write_bytes(right)
        command = ["wrk", f"-t{threads}", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s"]
        command += ["-s", os.fspath(WRK), f"http://127.0.0.1:{port}/", "--", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    others = seen["wrong"] + seen["refused"] + seen["lost"]
    return Summary(seen["good"], seen["good"] / seen["seconds"], seen["p50"], seen["p99"], others)


def load(
    port: int,
    requests: Sequence[Request],
    clients: int,
    *,
    seconds: float = 1e9,
    count: int | None = None,
    rate: float | None = None,
    meanwhile: Callable[[list[Client], Load], None] | None = None,
) -> Load:
    """Puts load on a server until the time is over or `count` requests are done.

    Args:
        port: of the server.
        requests: are sent in turn.
        clients: connections.
        seconds: after which no request begins.
        count: of requests.
        rate: requests per second, of all clients together; None: as many as are answered.
        meanwhile: is called when all are connected, and has the load go on until it returns.
    """
    seen, lock, over = Load(), threading.Lock(), threading.Event()
    left = iter(range(count if count is not None else 1 << 62))
    connections = [Client(port) for _ in range(clients)]
    begin = time.perf_counter()

    def work(client: Client) -> None:
        while not over.is_set() and time.perf_counter() < begin + seconds:
            with lock:
                i = next(left, None)
            if i is None:
                return
            if rate is not None:
                time.sleep(max(0.0, begin + i / rate - time.perf_counter()))
            request, right = requests[i % len(requests)]
            sent = time.perf_counter()
            try:
                code, body = client.ask(request)
            except OSError:
                with lock:
                    seen.lost.append((client.port, sent))
                try:
                    client = Client(port)
                except OSError:
                    return
                continue
            answered = time.perf_counter()
            with lock:
                seen.codes[code] += 1
                if code == 200:
                    seen.good.append((sent, answered))
                    seen.wrong += right is not None and not body.endswith(right)

    threads = [threading.Thread(target=work, args=(c,)) for c in connections]
    for thread in threads:
        thread.start()
    try:
        if meanwhile is not None:
            meanwhile(connections, seen)
            over.set()
        for thread in threads:
            thread.join()
    finally:  # after an exception the clients end too
        over.set()
    seen.seconds = time.perf_counter() - begin
    return seen
