"""Hostile requests to `python -m cnnrt serve`, over HTTP and gRPC, for a bounded time.

    python tests/fuzz/server.py --minutes 20

Right requests are changed: values of their JSON, their headers, paths, packing, bytes and their
end. Findings are: status 500, or UNKNOWN of gRPC; an answer without a sentence; no answer; a server
that ends; more than `MEGABYTES`; a right request, sent now and then, with another answer than
`model(x)`. They are printed with the request, and the exit status is 1. `openapi.py` makes requests
from the protocol's document instead.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import socket
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grpc
import numpy as np
from mutate import mutated_bytes
from open_inference.grpc import protocol as messages

from test_serve import EXAMPLES, INFER, INPUT, LENET, MODEL, OUTPUT, Server, X, tensor

MEGABYTES = 700
SECONDS = 20.0
"""Time that an answer may take, on a busy machine; the server's own bound is `--timeout 2`."""
CHECK = 200
"""Requests between two right ones."""
CLIENTS = 4
"""Requests at once, so that slow ones do not hold up the others."""
DIGITS = [file.read_bytes() for file in sorted((EXAMPLES / "digits").glob("*.png"))]

DEEP: Any = 1
for _ in range(500):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**40 - 1, 2**63, 2**64, 10**400, 0.5, -0.0, 1e300),
    *(float("nan"), float("inf"), "", "x", "FP16", "BF16", "INT64", "BYTES", "\ud800", "\x00"),
    *("é" * 70, "1" * 5000, "../../etc/passwd", INPUT.name, OUTPUT.name, "/proc/self/environ"),
    *([], [[]], {}, {"name": INPUT.name}, [{}], DEEP, [1] * 2000, ["a", 1], [[1], 2]),
    *([0, 2**39, 2**39], [1] * 9, [-1, 1, 28, 28], [1, 1, 28, 28], [0, 1, 28, 28], [2**20] * 3),
)
NUMBERS = ("", "0", "-1", "+5", " 7", "\xb2", "\xb9", "1e3", "0x10", "9" * 30, "1" * 5000, "nan")
PATHS = (
    *(INFER, "/v2/models/lenet5", "/v2/models/lenet5/ready", "/v2/repository/index", "/", "/v2"),
    *("/v2/models/lenet5/versions/1/infer", "/v2/models/lenet5/versions/%ff", "/metrics", "//v2"),
    *("/v2/models/..%2f..%2fetc%2fpasswd/infer", "/v2/models/%00/infer", "/v2/models/%ed%a0%80"),
    *("/v2/repository/models/lenet5/load", "/v2/repository/models/%2e%2e/load", "*", "", "http://"),
    *("/v2/models/lenet5/classify?top=" + n for n in ("5", "0", "%C2%B2", "1" * 5000, "-1", "")),
    *("/v2/models/lenet5/classify?map=1", "/v2/models/" + "a" * 5000, "/v2/health/ready", "/%"),
)
METHODS = ("POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "post", "P\xd6ST")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    done, findings = run(options.minutes * 60, options.seed)
    print("; ".join(f"{name}: {n}" for name, n in sorted(done.items())))
    for finding in findings[:20]:
        print(finding[:600])
    print(f"{sum(done.values())} requests, {len(findings)} findings")
    return int(bool(findings))


def run(seconds: float, seed: int) -> tuple[Counter[str], list[str]]:
    """How often each kind of answer came, and the findings."""
    done, findings = Counter[str](), []
    limits = ["--timeout", "2", "--max-body-mb", "1", "--queue", "8", "--threads", "1"]
    server = Server(str(LENET), *limits).wait_ready()
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    end = time.monotonic() + seconds

    def work(client: int) -> None:
        rng, count = random.Random(seed * CLIENTS + client), 0
        while time.monotonic() < end and server.process.poll() is None:
            by_grpc = rng.random() < 0.15
            kind, fault, sent = call(channel, rng) if by_grpc else request(server.port, rng)
            done[kind] += 1
            count += 1
            if client == 0 and count % CHECK == 0:
                fault = fault or wrong(server)
            if fault:
                findings.append(f"{fault}: {sent[:2000]!r}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in pool.map(work, range(CLIENTS)):
            pass
    if server.process.poll() is not None:
        findings.append(f"the server ended: {''.join(server.lines)[-2000:]}")
    elif fault := wrong(server):
        findings.append(fault)
    channel.close()
    server.stop()
    failed = [line for line in server.lines if '"exception"' in line]
    findings += [f"the log has {line[-500:]}" for line in failed]
    return done, findings


def wrong(server: Server) -> str:
    """The fault of the answer to a right request, or of the memory; "" if there is none."""
    answer = server.http.post(INFER, json={"inputs": [tensor(X)]})
    if answer.status_code != 200:
        return f"a right request got {answer.status_code} {answer.text}"
    data = np.float32(answer.json()["outputs"][0]["data"]).reshape(-1, 10)
    if not np.array_equal(data, MODEL(X)):
        return "a right request got a wrong answer"
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (resident,) = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return f"{resident >> 10} MB" if resident >> 10 > MEGABYTES else ""


# HTTP --------------------------------------------------------------------------------------------


def request(port: int, rng: random.Random) -> tuple[str, str, bytes]:
    """Sends one request; the kind of its answer, the fault of it if any, and the request."""
    data, whole = made_request(rng)
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            connection.sendall(data)
            if not whole and rng.random() < 0.7:
                return "hung up", "", data  # and read nothing
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        except TimeoutError:
            return "none", "no answer", data
        except OSError:  # closed while it was sent to: a refusal, which its system dropped
            return "reset", "", data
    return judged(answer, data)


def judged(answer: bytes, data: bytes) -> tuple[str, str, bytes]:
    if not answer:
        return "closed", "", data
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    stated = re.search(rb"content-length: (\d+)", head.lower())
    if stated is not None:  # what follows answers the bytes behind the request
        body = body[: int(stated[1])]
    code = head.split(b" ", 2)[1].decode()
    if code == "500":
        return code, "status 500", data
    if code >= "400" and not data.startswith(b"HEAD"):
        try:
            said = json.loads(body)["error"]
            assert isinstance(said, str)
            assert 0 < len(said) < 2000
        except (ValueError, KeyError, TypeError, AssertionError):
            return code, f"an answer without a sentence, {body[:500]!r}", data
    return code, "", data


def made_request(rng: random.Random) -> tuple[bytes, bool]:
    """The bytes of a changed request; false if its end is missing."""
    path, headers = INFER, {"Host": "fuzz", "Connection": "close"}
    kind = rng.random()
    if kind < 0.5:
        body = json.dumps(mutated_value(infer_document(rng), rng)).encode()
    elif kind < 0.75:
        document = infer_document(rng)
        values = X.tobytes()
        document["inputs"][0].pop("data")
        document["inputs"][0]["parameters"] = {"binary_data_size": len(values)}
        text = json.dumps(mutated_value(document, rng)).encode()
        length = str(len(text)) if rng.random() < 0.7 else rng.choice(NUMBERS)
        headers["Inference-Header-Content-Length"] = length
        body = text + (values if rng.random() < 0.7 else mutated_bytes(values, rng))
    else:
        path = "/v2/models/lenet5/classify"
        body = mutated_bytes(rng.choice(DIGITS), rng)
    if rng.random() < 0.2:
        path = rng.choice(PATHS)
    if rng.random() < 0.1:
        body = rng.choice((b"", b"{", b"[" * 100_000, b"\xff\xfe", bytes(2 << 20), body + b"\0"))
    if rng.random() < 0.15:
        packing = rng.choice(("gzip", "deflate", "br", "gzip, gzip", "\xe9", "identity"))
        headers["Content-Encoding"] = packing
        pack = rng.choice((gzip.compress, zlib.compress, bytes))
        body = pack(body if rng.random() < 0.8 else bytes(30 << 20))
        if rng.random() < 0.3:
            body = mutated_bytes(body, rng)
    if rng.random() < 0.1:
        headers[rng.choice(("Accept-Encoding", "X-Long", "Expect", "Upgrade", "Cookie"))] = (
            rng.choice(("gzip", "a" * 5000, "a" * 80_000, "100-continue", "websocket", "\xff"))
        )
    method = "POST" if rng.random() < 0.95 else rng.choice(METHODS)
    if rng.random() < 0.1:
        headers["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%s\r\n%s\r\n\r\n" % (len(body), body, rng.choice((b"0", b"-1", b"zz", b"")))
    else:
        headers["Content-Length"] = str(len(body))
        if rng.random() < 0.05:
            headers["Content-Length"] = rng.choice((*NUMBERS, str(len(body) + 3)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    if rng.random() < 0.03:
        data = mutated_bytes(data, rng)
    if rng.random() < 0.05:
        return data[: rng.randrange(len(data))], False
    return data, True


def infer_document(rng: random.Random) -> dict[str, Any]:
    document: dict[str, Any] = {"inputs": [tensor(X[: rng.randrange(1, 4)])]}
    if rng.random() < 0.5:
        document["id"] = "7"
    if rng.random() < 0.5:
        wanted = {"name": OUTPUT.name, "parameters": {"binary_data": rng.random() < 0.5}}
        document["outputs"] = [wanted] * rng.choice((1, 1, 1, 2))
    if rng.random() < 0.3:
        document["parameters"] = {"binary_data_output": True}
    return document


def mutated_value(value: Any, rng: random.Random, chance: float = 0.15) -> Any:
    """A JSON value with some of its parts replaced, removed or doubled."""
    if rng.random() < chance / 3:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        found = {}
        for key, part in value.items():
            if rng.random() < chance / 4:
                continue
            name = key if rng.random() > chance / 8 else rng.choice(("\ud800", "", "data", "x"))
            found[name] = mutated_value(part, rng, chance)
        return found
    if isinstance(value, list) and len(value) < 20:
        parts = [mutated_value(part, rng, chance) for part in value]
        return parts * 2 if rng.random() < chance / 8 else parts
    if isinstance(value, list) and rng.random() < chance:
        changed = list(value)
        changed[rng.randrange(len(changed))] = rng.choice(VALUES)
        return changed
    return value


# gRPC --------------------------------------------------------------------------------------------


def call(channel: Any, rng: random.Random) -> tuple[str, str, bytes]:
    """Sends one call; as `request`."""
    method, data = made_call(rng)
    ask = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    try:
        ask(data, timeout=SECONDS)
    except grpc.RpcError as error:
        name, said = error.code().name, str(error.details())
        ours = name == "UNKNOWN" or (name == "INTERNAL" and "deserializing" not in said)
        late = name == "DEADLINE_EXCEEDED" and "within" not in said
        return f"gRPC {name}", f"{name}: {said}" if ours or late else "", data
    return "gRPC OK", "", data


def made_call(rng: random.Random) -> tuple[str, bytes]:
    method = rng.choice(("ModelInfer",) * 8 + ("ModelMetadata", "ModelReady", "ServerMetadata"))
    if method != "ModelInfer":
        name = rng.choice(("lenet5", "", "../lenet5", "é" * 5000, "\x00"))
        fields = {} if method == "ServerMetadata" else {"name": name, "version": name[:1]}
        data = getattr(messages, f"{method}Request")(**fields).SerializeToString()
        return method, mutated_bytes(data, rng) if rng.random() < 0.3 else data
    message = messages.ModelInferRequest(model_name="lenet5", id="7")
    shape = [len(X), 1, 28, 28] if rng.random() < 0.7 else rng.choice(([], [0], [-1], [2**62] * 3))
    code = "FP32" if rng.random() < 0.8 else rng.choice(("FP64", "BF16", "BYTES", "", "é"))
    item = message.inputs.add(name=INPUT.name, datatype=code, shape=shape)
    if rng.random() < 0.5:
        message.raw_input_contents.append(X.tobytes() if rng.random() < 0.7 else b"1234")
    else:
        item.contents.fp32_contents.extend(X.ravel()[: rng.choice((X.size, 0, 7))].tolist())
    for _ in range(rng.choice((0, 0, 1, 2))):
        message.outputs.add(name=rng.choice((OUTPUT.name, "none", "")))
    data = message.SerializeToString()
    return method, mutated_bytes(data, rng) if rng.random() < 0.4 else data


if __name__ == "__main__":
    sys.exit(main())
