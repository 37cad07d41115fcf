"""`python -m cnnrt serve`: the protocol with its own clients, batches, refusals, the end."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("httptools")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import cnnrt  # noqa: E402
from browser import Browser  # noqa: E402

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
LITE0 = EXAMPLES / "efficientnet_lite0.bin"
RNG = np.random.default_rng(0)
MODEL = cnnrt.load(LENET)
(INPUT,), (OUTPUT,) = MODEL.inputs, MODEL.outputs
X = RNG.random((3, 1, 28, 28), np.float32)
INFER = "/v2/models/lenet5/infer"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Server:
    def __init__(self, *arguments: str) -> None:
        self.port, self.grpc_port = free_port(), free_port()
        command = [sys.executable, "-m", "cnnrt", "serve", *arguments]
        command += ["--port", str(self.port), "--grpc-port", str(self.grpc_port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)

    def wait_ready(self, headers: dict[str, str] | None = None) -> Server:
        end = time.monotonic() + 90
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.http.get("/v2/health/ready", headers=headers).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("".join(self.lines))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join(10)
        if self.process.stderr:
            self.process.stderr.close()
        self.http.close()
        return code


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server(str(LENET), str(LITE0), "--threads", "1").wait_ready()
    yield found
    found.stop()


def tensor(x: np.ndarray, **more: Any) -> dict[str, Any]:
    return {
        "name": INPUT.name,
        "datatype": "FP32",
        "shape": list(x.shape),
        "data": x.reshape(-1).tolist(),
        **more,
    }


def test_health_and_metadata(server: Server) -> None:
    assert server.http.get("/v2/health/live").json() == {"live": True}
    assert server.http.get("/v2/health/ready").json() == {"ready": True}
    found = server.http.get("/v2").json()
    assert found["name"] == "cnnrt"
    assert "binary_tensor_data" in found["extensions"]
    for path in ("/v2/models/lenet5", "/v2/models/lenet5/versions/1"):
        assert server.http.get(path).json() == {
            "name": "lenet5",
            "versions": ["1"],
            "platform": "cnnrt",
            "inputs": [{"name": INPUT.name, "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
            "outputs": [{"name": OUTPUT.name, "datatype": "FP32", "shape": [-1, 10]}],
        }
        assert server.http.get(f"{path}/ready").json() == {"name": "lenet5", "ready": True}


def test_inference_by_json(server: Server) -> None:
    answer = server.http.post(INFER, json={"id": "7", "inputs": [tensor(X)]})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("lenet5", "1", "7")
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == (OUTPUT.name, "FP32", [3, 10])
    got = np.array(output["data"], np.float32).reshape(3, 10)
    assert np.array_equal(got, MODEL(X))
    nested = {"inputs": [tensor(X) | {"data": X.tolist()}]}
    packed = gzip.compress(json.dumps(nested).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    again = server.http.post(INFER, content=packed, headers=headers)
    assert again.json()["outputs"] == found["outputs"]


def test_the_clients_of_triton(server: Server) -> None:
    client = pytest.importorskip("tritonclient.http")
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as http:
        assert http.is_server_live()
        assert http.is_server_ready()
        assert http.is_model_ready("lenet5")
        assert http.get_server_metadata()["name"] == "cnnrt"
        assert http.get_model_metadata("lenet5")["inputs"][0]["shape"] == [-1, 1, 28, 28]
        assert {m["name"] for m in http.get_model_repository_index()} == {
            "lenet5",
            "efficientnet_lite0",
        }
        for binary in (True, False):
            x = client.InferInput(INPUT.name, X.shape, "FP32")
            x.set_data_from_numpy(X, binary_data=binary)
            wanted = [client.InferRequestedOutput(OUTPUT.name, binary_data=binary)]
            for packing in (None, "gzip", "deflate"):
                result = http.infer(
                    "lenet5",
                    [x],
                    outputs=wanted,
                    request_compression_algorithm=packing,
                    response_compression_algorithm=packing,
                )
                assert np.array_equal(result.as_numpy(OUTPUT.name), MODEL(X))
            assert np.array_equal(http.infer("lenet5", [x]).as_numpy(OUTPUT.name), MODEL(X))


def test_the_client_of_grpc(server: Server) -> None:
    client = pytest.importorskip("tritonclient.grpc")
    with client.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as grpc:
        assert grpc.is_server_live()
        assert grpc.is_server_ready()
        assert grpc.is_model_ready("lenet5")
        assert grpc.get_server_metadata().name == "cnnrt"
        assert not grpc.get_server_metadata().extensions
        assert list(grpc.get_model_metadata("lenet5").inputs[0].shape) == [-1, 1, 28, 28]
        x = client.InferInput(INPUT.name, X.shape, "FP32")
        x.set_data_from_numpy(X)
        result = grpc.infer("lenet5", [x])
        assert np.array_equal(result.as_numpy(OUTPUT.name), MODEL(X))
        bad = client.InferInput(INPUT.name, [1, 1, 28, 29], "FP32")
        bad.set_data_from_numpy(np.zeros((1, 1, 28, 29), np.float32))
        for name, inputs, said in (("lenet5", [bad], "takes shape"), ("none", [x], "no model")):
            with pytest.raises(Exception, match=said):
                grpc.infer(name, inputs)


def test_a_damaged_message_of_grpc_is_the_clients_fault(server: Server) -> None:
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"\x0a\xff", timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be read" in caught.value.details()


def counter(server: Server, name: str) -> float:
    """The value of a counter; 0 before it has counted."""
    lines = server.http.get("/metrics").text.splitlines()
    return sum(float(line.split(" ")[-1]) for line in lines if line.startswith(f"{name} "))


def test_many_clients_get_their_own_answers(server: Server) -> None:
    """Merged or not, each answer has the bits of a run alone."""
    runs = 'cnnrt_batch_rows_count{model="lenet5"}'
    before = counter(server, runs)
    images = RNG.random((200, 1, 1, 28, 28), np.float32)
    expected = [MODEL(x) for x in images]

    def ask(i: int) -> bool:
        document = {"inputs": [tensor(images[i])]}
        (output,) = server.http.post(INFER, json=document).json()["outputs"]
        return np.array_equal(np.float32(output["data"]).reshape(1, 10), expected[i])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(len(images))))
    assert counter(server, 'cnnrt_requests_total{code="200",model="lenet5"}') >= 200
    assert counter(server, runs) - before < 200  # some were merged


def test_a_photo(server: Server) -> None:
    data = (EXAMPLES / "coffee.png").read_bytes()
    path = "/v2/models/efficientnet_lite0/classify"
    found = server.http.post(f"{path}?top=2", content=data).json()
    assert found["classes"][0]["label"] == "espresso"
    assert len(found["classes"]) == 2
    here = cnnrt.load(LITE0).classify(EXAMPLES / "coffee.png", 1)[0]
    assert found["classes"][0]["probability"] == here.probability
    for content, top in ((b"no image", 5), (b"", 5), (data, 0), (data, "x")):
        answer = server.http.post(f"{path}?top={top}", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"]


def test_a_map_of_the_class(server: Server) -> None:
    data, path = (EXAMPLES / "coffee.png").read_bytes(), "/v2/models/efficientnet_lite0/classify"
    found = server.http.post(f"{path}?map=1", content=data).json()
    wanted = cnnrt.activation_map(cnnrt.load(LITE0), EXAMPLES / "coffee.png")
    assert found["map"]["label"] == wanted.label == "espresso"
    np.testing.assert_array_equal(np.float32(found["map"]["values"]), wanted.values)
    assert all(0 <= share <= 1 for share in found["map"]["box"])
    assert "map" not in server.http.post(path, content=data).json()
    assert server.http.post(f"{path}?map=2", content=data).status_code == 400


DROP = """(async () => {
  const bytes = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], "cat.png", { type: "image/png" }));
  document.getElementById("model").value = "efficientnet_lite0";
  %s
  for (let i = 0; i < 600; i += 1) {
    await new Promise((done) => setTimeout(done, 50));
    if (!document.getElementById("classes").hidden && / ms$/.test(status())) break;
  }
  return [status(), document.querySelector("#classes td").textContent,
    document.getElementById("map").hidden, document.getElementById("map").width,
    document.documentElement.scrollWidth];
  function status() { return document.getElementById("status").textContent; }
})()"""
BY_DROP = """const event = new Event("drop");
  event.dataTransfer = data;
  document.getElementById("drop").dispatchEvent(event);"""
BY_FILE = """document.getElementById("file").files = data.files;
  document.getElementById("file").dispatchEvent(new Event("change"));"""


@pytest.mark.parametrize(("width", "how"), [(1280, BY_DROP), (390, BY_FILE)])
def test_the_page_in_a_browser(server: Server, browser: Browser, width: int, how: str) -> None:
    """A photo by drop and by file: classes and the map, at both widths, with no other address."""
    address = f"http://127.0.0.1:{server.port}/"
    report = browser.open(address, width=width)
    photo = base64.b64encode((EXAMPLES / "chelsea.png").read_bytes()).decode()
    said, label, hidden, cells, wide = browser.evaluate(DROP % (photo, how))
    assert label in {"tabby", "tiger cat", "Egyptian cat"}
    assert said.startswith(label)
    assert not hidden
    assert cells == 7
    assert wide <= width
    assert not report.errors
    assert all(url.startswith(address) for url in report.requests)
    # By the keyboard: everything that can be used can be reached, and says what it is.
    reached = browser.evaluate(
        "[...document.querySelectorAll('select, input, button, pre')].every((e) =>"
        "e.tabIndex >= 0 && (e.labels?.length || e.textContent || e.ariaLabel))"
    )
    assert reached


def test_the_repository(server: Server) -> None:
    http = server.http
    index = http.post("/v2/repository/index").json()
    assert {"name": "lenet5", "version": "1", "state": "READY", "reason": ""} in index
    assert http.post("/v2/repository/models/lenet5/unload").json() == {}
    assert http.get("/v2/models/lenet5/ready").status_code == 503
    assert http.post(INFER, json={"inputs": [tensor(X)]}).status_code == 400
    ready = http.post("/v2/repository/index", json={"ready": True}).json()
    assert [m["name"] for m in ready] == ["efficientnet_lite0"]
    assert http.post("/v2/repository/models/lenet5/load").json() == {}
    assert http.post(INFER, json={"inputs": [tensor(X)]}).status_code == 200
    assert http.post("/v2/repository/models/none/load").status_code == 404


def test_the_page_and_the_document(server: Server) -> None:
    page = server.http.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    document = server.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    assert infer["parameters"][0]["schema"]["enum"] == ["lenet5", "efficientnet_lite0"]


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    server = Server(str(LITE0), "--queue", "2", "--max-batch", "1", "--threads", "1").wait_ready()
    try:
        x = np.zeros((4, 3, 224, 224), np.float32)
        document = json.dumps(
            {
                "inputs": [
                    {
                        "name": "inputs",
                        "datatype": "FP32",
                        "shape": list(x.shape),
                        "parameters": {"binary_data_size": x.nbytes},
                    }
                ],
                "outputs": [{"name": cnnrt.load(LITE0).outputs[0].name}],
            }
        ).encode()
        headers = {"Inference-Header-Content-Length": str(len(document))}
        body = document + x.tobytes()

        def ask(_: int) -> Any:
            return server.http.post(
                "/v2/models/efficientnet_lite0/infer", content=body, headers=headers
            )

        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, range(24)))
        codes = {a.status_code for a in answers}
        assert codes == {200, 429}
        refused = next(a for a in answers if a.status_code == 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert ask(0).status_code == 200
    finally:
        server.stop()


def test_a_token_and_the_end(tmp_path: Path) -> None:
    """SIGTERM lets requests finish; without the token only health answers."""
    token = tmp_path / "token"
    token.write_text("secret\n")
    server = Server(str(LENET), "--token-file", str(token)).wait_ready()
    assert server.http.get("/v2").status_code == 401
    assert server.http.get("/v2", headers={"Authorization": "Bearer wrong"}).status_code == 401
    allowed = {"Authorization": "Bearer secret"}
    assert server.http.get("/v2", headers=allowed).status_code == 200
    codes: list[int] = []

    def ask() -> None:
        try:
            while True:
                document = {"inputs": [tensor(X)]}
                codes.append(server.http.post(INFER, json=document, headers=allowed).status_code)
        except httpx.TransportError:
            pass

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert server.stop() in (0, -signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert set(codes) == {200}
    logged = [json.loads(line) for line in server.lines]
    assert any(line.get("path") == INFER and line["status"] == 200 for line in logged)


def sockets(pid: int) -> int:
    """The number of open sockets of a process."""
    links = list(Path(f"/proc/{pid}/fd").iterdir())
    return sum(os.readlink(link).startswith("socket:") for link in links)  # noqa: PTH115


def test_workers(tmp_path: Path) -> None:
    """Each gets a share of the connections. One that is killed is replaced; the others answer
    meanwhile."""
    server = Server(str(LENET), "--workers", "2", "--threads", "1").wait_ready()
    try:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        workers = [
            int(pid)
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(workers) == 2
        end = time.monotonic() + 60
        while sum("startup complete" in line for line in server.lines) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)  # it listens right after that line
        for _ in range(3):
            before = [sockets(pid) for pid in workers]
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(24)]
            time.sleep(0.5)
            shares = [sockets(p) - n for p, n in zip(workers, before, strict=True)]
            assert min(shares) >= 3, shares
            for client in clients:
                client.close()
            time.sleep(0.5)
        os.kill(workers[0], signal.SIGKILL)
        good = 0
        end = time.monotonic() + 60
        while good < 20 and time.monotonic() < end:
            try:
                with httpx.Client(base_url=server.http.base_url, timeout=60) as http:
                    good += http.post(INFER, json={"inputs": [tensor(X)]}).status_code == 200
            except httpx.TransportError:
                time.sleep(0.05)
        assert good == 20
        assert "cnnrt_requests_total" in server.http.get("/metrics").text
    finally:
        server.stop()


def test_nothing_to_serve(tmp_path: Path) -> None:
    for arguments, said in (
        ([str(tmp_path)], "no .bin or .onnx file"),
        ([str(tmp_path / "none.bin")], "none.bin"),
        ([str(LENET), str(LENET)], "both named"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cnnrt", "serve", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr
