"""`python -m cnnrt serve`: requests that are wrong, slow, too many or meant to do harm."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx")
pytest.importorskip("httptools")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import cnnrt
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec
from test_serve import EXAMPLES, INFER, LENET, LITE0, OUTPUT, Server, X, counter, tensor


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server(str(LENET), "--threads", "1", "--timeout", "2").wait_ready()
    yield found
    found.stop()


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"inputs": []}, 400, "missing"),
        ({"inputs": "x"}, 400, "list of objects"),
        ({"inputs": [{}]}, 400, "no 'name'"),
        ({"inputs": [{"name": "nothing"}]}, 400, "no input 'nothing'"),
        ({"inputs": [tensor(X) | {"datatype": "FP99"}]}, 400, "datatype"),
        ({"inputs": [tensor(X) | {"datatype": "FP64"}]}, 400, "expected FP32"),
        ({"inputs": [tensor(X) | {"shape": [3, 1, 28]}]}, 400, "elements"),
        ({"inputs": [tensor(X) | {"shape": [-1, 1, 28, 28]}]}, 400, "list of sizes"),
        ({"inputs": [tensor(X) | {"shape": "big"}]}, 400, "list of sizes"),
        ({"inputs": [tensor(X) | {"data": ["a"] * X.size}]}, 400, "no element"),
        ({"inputs": [tensor(X) | {"data": [[1], 2]}]}, 400, "side by side"),
        ({"inputs": [tensor(X) | {"data": None}]}, 400, "neither"),
        ({"inputs": [tensor(X[:, :, :27])]}, 400, "takes shape"),
        ({"inputs": [tensor(X), tensor(X)]}, 400, "twice"),
        ({"inputs": [tensor(X)], "outputs": [{"name": "none"}]}, 400, "no output"),
        ({"inputs": [tensor(X)], "outputs": [{"name": OUTPUT.name}] * 2}, 400, "twice"),
        ({"inputs": [tensor(X)], "outputs": 3}, 400, "list of objects"),
        ({"inputs": [tensor(X)], "id": 3}, 400, "'id'"),
        ({"inputs": [tensor(X) | {"shape": [0, 1 << 39, 1 << 39], "data": []}]}, 400, "no tensor"),
        ({"inputs": [{"name": "\ud800"}]}, 400, "no input"),
        ({"inputs": [{"name": "x" * 10_000}]}, 400, "..."),
        ({"inputs": [tensor(X)], "outputs": [{"name": "\ud800", "parameters": 1}]}, 400, "object"),
        ({"inputs": [tensor(X, parameters={"shared_memory_region": "r"})]}, 400, "shared memory"),
        ({"inputs": [tensor(X, parameters={"binary_data_size": 4})]}, 400, "does not fit"),
    ],
)
def test_wrong_requests(server: Server, change: dict[str, Any], status: int, said: str) -> None:
    answer = server.http.post(INFER, content=json.dumps(change))
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_hostile_requests(server: Server) -> None:
    http = server.http
    for content, headers, status in (
        (b"{", {}, 400),
        (b"[1]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"{}", {"Inference-Header-Content-Length": "99"}, 400),
        *[
            (b"{}", {"Inference-Header-Content-Length": length.encode("latin-1")}, 400)
            for length in ("-1", "\xb2", "9" * 5000, "")  # a raised two is a digit to Python
        ],
        (b"junk", {"Content-Encoding": "gzip"}, 400),
        (b"junk", {"Content-Encoding": "br"}, 415),
        (gzip.compress(bytes(200 << 20)), {"Content-Encoding": "gzip"}, 413),
        (bytes(65 << 20), {}, 413),
    ):
        answer = http.post(INFER, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]
    for path, status in (
        ("/v2/models/..%2f..%2fetc%2fpasswd", 404),
        ("/none", 404),
        ("/v2/models/none/ready", 404),
        ("/v2/models/none", 400),  # as the protocol's document has it
        ("/v2/models/%00", 400),
        ("/v2/models/%ed%a0%80", 400),
    ):
        assert http.get(path).status_code == status
        assert "error" in http.get(path).json()
    photo = (EXAMPLES / "coffee.png").read_bytes()
    for top in ("-1", "%C2%B2", "9" * 5000):
        answer = http.post(f"/v2/models/lenet5/classify?top={top}", content=photo)
        assert answer.status_code == 400
    assert http.post("/v2/models/none/infer", json={}).status_code == 400
    assert http.get(INFER).status_code == 405
    assert http.get("/v2/models/lenet5/versions/2").status_code == 400
    assert http.post("/v2/repository/index", json={"ready": 1}).status_code == 400
    assert http.post(INFER, json={"inputs": [tensor(X)]}).status_code == 200


@pytest.mark.parametrize(
    ("start", "more"),
    [(b"", b""), (b"POST /v2 HTTP/1.1\r\nHost: a\r\n", b"P"), (b"POST", b" "), (b"", b"\r\n")],
)
def test_slow_headers_end(server: Server, start: bytes, more: bytes) -> None:
    """A client that sends its headers byte by byte has `--timeout` for them, and not longer."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(start)
        time.sleep(0.5)
        connection.sendall(more)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert 1.5 < time.monotonic() - began < 20
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"headers took longer than 2 s" in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of TLS
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20_000,
        f"POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n".encode()
        + b"Trailer: a\r\n" * 20_000,
        f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
    ],
)
def test_what_is_not_http(server: Server, request_bytes: bytes) -> None:
    """It is refused with a sentence, and the application's log has no error of it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request_bytes)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "not HTTP/1.1" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert server.http.post(INFER, json={"inputs": [tensor(X)]}).status_code == 200
    assert not [line for line in server.lines if '"exception"' in line]


def received(connection: socket.socket, answers: int) -> list[bytes]:
    """Status lines of the answers on a connection, until so many bodies or its end have come."""
    data = b""
    while data.count(b"HTTP/1.1 ") < answers or not data.endswith((b"}", b"}]")):
        part = connection.recv(1 << 16)
        if not part:
            break
        data += part
    return [part[:3] for part in data.split(b"HTTP/1.1 ")[1:]]


def test_bodies_in_pieces(server: Server) -> None:
    """A stated length, or chunks, byte by byte or together with the next request."""
    document = json.dumps({"inputs": [tensor(X)]}).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\n"
    stated = f"{head}Content-Length: {len(document)}\r\n\r\n".encode() + document
    chunks = b"".join(
        b"%x;extension\r\n%s\r\n" % (len(part), part)
        for part in (document[:1], document[1:70_000], document[70_000:])
        if part
    )
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
    upgrade = stated.replace(b"Host: a\r\n", b"Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n")
    expecting = stated.replace(b"Host: a\r\n", b"Host: a\r\nExpect: 100-continue\r\n")
    for request in (stated, chunked, upgrade):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            for piece in (request[:20], request[20:150], request[150:151], request[151:]):
                connection.sendall(piece)
                time.sleep(0.02)
            assert received(connection, 1) == [b"200"]
            connection.sendall(request)
            assert received(connection, 1) == [b"200"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(stated + chunked + stated + b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        assert received(connection, 4) == [b"200"] * 4
        connection.sendall(expecting[: -len(document)])
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(document)
        assert received(connection, 1) == [b"200"]
        connection.sendall(stated + b"nothing of HTTP\r\n\r\n")  # the request before it is right
        assert received(connection, 2) == [b"200"]
        assert not connection.recv(1)


def test_slow_bodies_end(server: Server) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_quick_client_may_wait_between_requests(server: Server) -> None:
    """The clock of the headers starts anew with each request of a connection."""
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                part = connection.recv(4096)
                assert part
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(1.5)


def test_photos_beyond_the_queue_are_not_decoded(tmp_path: Path) -> None:
    """Photos that find no place are refused at once, before the others are done. Decoding them
    would take the time of the runs."""
    server = Server(str(LITE0), "--queue", "2", "--max-batch", "1", "--threads", "1").wait_ready()
    try:
        photo = large_photo(tmp_path)
        path = "/v2/models/efficientnet_lite0/classify"
        times: list[tuple[int, float]] = []
        lock = threading.Lock()

        def ask(_: int) -> None:
            began = time.monotonic()
            code = server.http.post(path, content=photo).status_code
            with lock:
                times.append((code, time.monotonic() - began))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(16)))
        served = [seconds for code, seconds in times if code == 200]
        refused = [seconds for code, seconds in times if code == 429]
        assert len(served) + len(refused) == 16
        assert served
        assert refused
        assert sorted(refused)[len(refused) // 2] < min(served)
        assert counter(server, 'cnnrt_refused_total{model="efficientnet_lite0"}') == len(refused)
        codes = 'cnnrt_requests_total{code="429",model="efficientnet_lite0"}'
        assert counter(server, codes) == len(refused)
    finally:
        server.stop()


def large_photo(folder: Path) -> bytes:
    """A photo that takes much longer to decode than to refuse."""
    from PIL import Image

    with Image.open(EXAMPLES / "coffee.png") as photo:
        photo.convert("RGB").resize((4000, 3000)).save(folder / "large.png")
    return (folder / "large.png").read_bytes()


def test_networks_without_classes_and_probabilities_that_are_no_numbers(tmp_path: Path) -> None:
    """An image to a network of other outputs is the client's fault, and JSON has no NaN."""
    graph = Graph(
        [TensorSpec("x", ("batch", 1, 4, 4))],
        [TensorSpec("scores", ("batch", 2))],
        [
            Node("conv", "conv", ["x", "weight"], ["conv"]),
            Node("log", "log", ["conv"], ["log"]),  # of negative numbers
            Node("flatten", "flatten", ["log"], ["scores"]),
        ],
        {"weight": np.full((2, 1, 4, 4), -1, np.float32)},
    )
    size = cnnrt.Preprocessing(size=(4, 4), resize=4, channels="L", scale=1 / 255)
    write_model(tmp_path / "logs.bin", graph, preprocessing=size)
    server = Server(str(tmp_path), str(EXAMPLES / "digit_detector.bin")).wait_ready()
    try:
        photo = (EXAMPLES / "coffee.png").read_bytes()
        for query in ("", "?map=1"):
            answer = server.http.post(f"/v2/models/digit_detector/classify{query}", content=photo)
            assert answer.status_code == 400
            assert "no score for each class" in answer.json()["error"]
            answer = server.http.post(f"/v2/models/logs/classify{query}", content=photo)
            assert answer.status_code == 200
            assert [c["probability"] for c in answer.json()["classes"]] == [None, None]
    finally:
        server.stop()
