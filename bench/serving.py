"""`python -m cnnrt serve` under load: throughput, latency, overload, a killed worker, the end.

    python bench/serving.py --part clients    # 1 to 64 clients, beside FastAPI with onnxruntime
    python bench/serving.py --part many       # 100,000 requests: none lost, none wrong, memory
    python bench/serving.py --part overload   # five times as many requests as it can answer
    python bench/serving.py --part kill       # kill -9 of one worker of two
    python bench/serving.py --part stop       # SIGTERM in the midst of requests

Needs the extras `serve` and `bench`. Each answer of cnnrt to a tensor is compared with `model(x)`
byte by byte. Of the plain server and of photos the status is checked. The clients share the
machine's cores with the server. So the tables also have the CPU time of the server for each
request, in which the clients do not count. If `wrk` is installed it is the client of the first
part, as it takes least.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from http_load import (
    Client,
    Load,
    Request,
    Server,
    cnnrt_server,
    http,
    inferences,
    load,
    measured,
    peer_server,
    photos,
)

import cnnrt

EXAMPLES = Path(__file__).parent.parent / "examples"
LITE0, LENET = EXAMPLES / "efficientnet_lite0.bin", EXAMPLES / "lenet5.bin"


# What is measured --------------------------------------------------------------------------------


def alone(path: Path, threads: int, seconds: float) -> None:
    """The model in this process: one image after the other, and in batches of 8."""
    model = cnnrt.load(path, threads=threads)
    shape = [int(n) for n in model.inputs[0].shape[1:]]
    for batch in (1, 8):
        x = np.random.default_rng(0).random((batch, *shape), np.float32)
        model(x)
        times, cpu, end = [], time.process_time(), time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = time.perf_counter()
            model(x)
            times.append(time.perf_counter() - begin)
        cpu = time.process_time() - cpu
        p50, p99 = 1e3 * np.percentile(times, [50, 99])
        images = batch * len(times)
        print(
            f"the model alone, batch {batch}: {images / sum(times):.0f} images per second, p50 "
            f"{p50:.1f} ms, p99 {p99:.1f} ms, {1e3 * cpu / images:.2f} ms of CPU per image",
            flush=True,
        )


def clients(threads: int, seconds: float, levels: Sequence[int]) -> bool:
    """A table over numbers of clients; true if no answer was lost or wrong."""
    alone(LITE0, threads, seconds)
    ours = inferences(LITE0, 16)
    tensor = 4 * 3 * 224 * 224  # bytes at the end of each request
    theirs: list[Request] = [(http("/predict", body[-tensor:]), None) for body, _ in ours]
    print("\n|  | cnnrt serve | | | | FastAPI, onnxruntime | | | |\n" + "|---" * 9 + "|")
    columns = "per second | p50 ms | p99 ms | CPU ms "
    print(f"| clients | {columns}| {columns}|")
    good = True
    with cnnrt_server(LITE0, "--threads", str(threads)) as a, peer_server(LITE0, threads) as b:
        for server, requests in ((a, ours), (b, theirs)):
            load(server.port, requests, 16, count=200)
        for level in levels:
            cells = []
            for server, requests in ((a, ours), (b, theirs)):
                cpu = server.cpu_seconds()
                seen = measured(server.port, requests, level, round(seconds))
                cpu = 1e3 * (server.cpu_seconds() - cpu) / max(1, seen.good)
                good &= seen.good > 0 and seen.others == 0
                cells.append(f"{seen.rate:.0f} | {seen.p50:.1f} | {seen.p99:.1f} | {cpu:.2f}")
            print(f"| {level} | {' | '.join(cells)} |", flush=True)
    alone(LITE0, threads, seconds)
    return good


def many(count: int, path: Path, threads: int) -> bool:
    """Sends many requests of one to three rows, and looks at the memory on the way."""
    requests = inferences(path, 30, rows=(1, 2, 3))
    memory: list[float] = []
    total = Load()
    with cnnrt_server(path, "--threads", str(threads)) as server:
        begin = time.perf_counter()
        for _ in range(10):
            seen = load(server.port, requests, 16, count=count // 10)
            total.codes += seen.codes
            total.wrong += seen.wrong
            total.lost += seen.lost
            memory.append(server.megabytes())
        seconds = time.perf_counter() - begin
    print(
        f"{path.stem}: {count} requests of 1 to 3 rows by 16 clients in {seconds:.0f} s: statuses "
        f"{dict(total.codes)}, wrong {total.wrong}, lost {len(total.lost)}\n"
        f"resident MB after each tenth: {', '.join(f'{m:.1f}' for m in memory)}"
    )
    right = total.codes == {200: count} and not total.wrong and not total.lost
    return right and memory[-1] - memory[1] < 5


def overload(threads: int, seconds: float) -> bool:
    """Photos at five times the rate that the server can answer."""
    requests = photos(LITE0, 64)
    with cnnrt_server(LITE0, "--threads", str(threads)) as server:
        load(server.port, requests, 16, count=200)
        calm = load(server.port, requests, 1, seconds=2).milliseconds(50)
        capacity = load(server.port, requests, 16, seconds=seconds).rate()
        seen = load(server.port, requests, 128, seconds=seconds, rate=5 * capacity)
        begin = time.perf_counter()
        client, recovered = Client(server.port), None
        while recovered is None and time.perf_counter() < begin + 10:
            sent = time.perf_counter()
            code, _ = client.ask(requests[0][0])
            if code == 200 and time.perf_counter() - sent < 2 * calm / 1e3:
                recovered = time.perf_counter() - begin
    print(
        f"capacity {capacity:.0f} photos per second; offered {5 * capacity:.0f}: "
        f"{sum(seen.codes.values()) / seen.seconds:.0f} answered per second, "
        f"{seen.rate():.0f} of them with 200, statuses {dict(seen.codes)}, lost {len(seen.lost)}\n"
        f"latency of those with 200: p50 {seen.milliseconds(50):.0f} ms, p99 "
        f"{seen.milliseconds(99):.0f} ms; before, from one client, {calm:.1f} ms\n"
        f"{'not' if recovered is None else f'{recovered:.3f} s'} until an answer takes less than "
        "twice that again"
    )
    shed = set(seen.codes) == {200, 429} and not seen.lost
    return shed and recovered is not None and recovered < 1


def owners(server: Server) -> dict[int, int]:
    """The worker that holds each connection, by the client's port."""
    inodes: dict[str, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == server.port:
            inodes[fields[9]] = int(fields[2].split(":")[1], 16)
    found = {}
    for pid in server.workers():
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.fspath(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:[") and target[8:-1] in inodes:
                found[inodes[target[8:-1]]] = pid
    return found


def kill(seconds: float) -> bool:
    """Kills one worker of two with SIGKILL, in the midst of requests of 16 clients."""
    requests = inferences(LITE0, 16)
    hit: dict[str, float] = {}
    others: set[int] = set()
    with cnnrt_server(LITE0, "--workers", "2", "--threads", "1") as server:
        listening = f":{server.port:04X} 00000000:0000 0A"
        while Path("/proc/net/tcp").read_text().count(listening) < 2:  # the second worker loads
            time.sleep(0.1)
        load(server.port, requests, 16, count=100)

        def meanwhile(connections: list[Client], _: Load) -> None:
            time.sleep(seconds / 2)
            owner, before = owners(server), set(server.workers())
            owner = {c.port: owner[c.port] for c in connections}
            victim = statistics.mode(owner.values())
            others.update(port for port, pid in owner.items() if pid != victim)
            hit["time"], hit["clients"] = time.perf_counter(), len(owner) - len(others)
            os.kill(victim, signal.SIGKILL)
            while len(set(server.workers()) - before) == 0:
                time.sleep(0.05)
            hit["replaced"] = time.perf_counter() - hit["time"]
            time.sleep(seconds / 2)

        seen = load(server.port, requests, 16, meanwhile=meanwhile)
    lost_by_others = [port for port, _ in seen.lost if port in others]
    last = max((sent for _, sent in seen.lost), default=0.0) - hit["time"]
    after = sum(sent > hit["time"] for sent, _ in seen.good)
    print(
        f"killed the worker of {hit['clients']:.0f} of 16 clients: {len(seen.lost)} requests lost "
        f"with it, {len(lost_by_others)} of the {len(others)} other clients; {after} answered "
        f"after that, wrong {seen.wrong}, statuses {dict(seen.codes)}; the last that was lost was "
        f"sent {1e3 * last:.0f} ms after the signal, a new worker started after "
        f"{hit['replaced']:.2f} s"
    )
    few = last < 0.1 and not lost_by_others  # while it dies, it may get new connections
    return few and after > 0 and not seen.wrong and set(seen.codes) == {200}


def stop(seconds: float) -> bool:
    """Sends SIGTERM in the midst of requests of 32 clients."""
    requests = inferences(LITE0, 16)
    hit: dict[str, float] = {}
    server = cnnrt_server(LITE0, "--threads", "2")
    load(server.port, requests, 16, count=100)

    def meanwhile(_: list[Client], __: Load) -> None:
        time.sleep(seconds)
        hit["time"] = time.perf_counter()
        server.process.terminate()
        hit["code"] = server.process.wait(60)
        hit["ended"] = time.perf_counter() - hit["time"]

    seen = load(server.port, requests, 32, meanwhile=meanwhile)
    # A request counts as sent once all of it is, some tenths of a millisecond after its time.
    lost = [sent for _, sent in seen.lost if sent < hit["time"] - 0.005]
    flight = sum(sent < hit["time"] < answered for sent, answered in seen.good)
    print(
        f"SIGTERM with {flight + len(lost)} requests in flight: {flight} answered with 200, "
        f"{len(lost)} lost, "
        f"wrong {seen.wrong}, statuses {dict(seen.codes)}; it ended after {hit['ended']:.2f} s"
    )
    return not lost and flight > 0 and not seen.wrong and set(seen.codes) == {200}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--part", choices=["clients", "many", "overload", "kill", "stop"], default="clients")
    add("--threads", type=int, default=2, help="of the server's runs")
    add("--seconds", type=float, default=4.0, help="of each load")
    add("--clients", default="1,2,4,8,16,32,64")
    add("--requests", type=int, default=100_000, help="of --part many")
    add("--model", type=Path, default=LENET, help="of --part many")
    options = parser.parse_args()
    levels = [int(level) for level in options.clients.split(",")]
    done = {
        "clients": lambda: clients(options.threads, options.seconds, levels),
        "many": lambda: many(options.requests, options.model, options.threads),
        "overload": lambda: overload(options.threads, options.seconds),
        "kill": lambda: kill(options.seconds),
        "stop": lambda: stop(options.seconds),
    }[options.part]()
    print("as it should be" if done else "NOT AS IT SHOULD BE")
    return int(not done)


if __name__ == "__main__":
    sys.exit(main())
