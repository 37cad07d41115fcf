"""The server and the client of KServe, which is in no extra of the project: `pip install kserve`.

Metadata and inference by REST, with JSON and with binary tensors, and by gRPC, for the models of
`examples/`. Every result has the bits of `model(x)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

kserve = pytest.importorskip("kserve", reason="KServe's client is not installed")

from kserve.protocol.infer_type import RequestedOutput  # noqa: E402

import cnnrt  # noqa: E402
from test_serve import LENET, LITE0, Server  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # KServe's own
MODELS = {path.stem: path for path in (LENET, LITE0)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server(*map(str, MODELS.values()), "--threads", "1").wait_ready()
    yield found
    found.stop()


def case(path: Path) -> tuple[cnnrt.Model, np.ndarray]:
    model = cnnrt.load(path, threads=1)
    (spec,) = model.inputs
    shape = (2 if isinstance(spec.shape[0], str) else spec.shape[0], *spec.shape[1:])
    return model, np.random.default_rng(0).random(shape, np.float32)


def request(name: str, model: cnnrt.Model, x: np.ndarray, binary: bool) -> kserve.InferRequest:
    tensor = kserve.InferInput(model.inputs[0].name, list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    return kserve.InferRequest(
        name,
        [tensor],
        request_outputs=[
            RequestedOutput(model.outputs[0].name, parameters={"binary_data": binary})
        ],
    )


@pytest.mark.parametrize("name", MODELS)
def test_rest(server: Server, name: str) -> None:
    model, x = case(MODELS[name])
    base = f"http://127.0.0.1:{server.port}"

    async def ask() -> None:
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2", timeout=60))
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, name)
        for binary in (False, True):
            answer = await client.infer(
                base, request(name, model, x, binary), model_name=name, headers={}
            )
            assert answer.model_name == name
            assert np.array_equal(answer.outputs[0].as_numpy(), model(x)), binary
        await client.close()

    asyncio.run(ask())


@pytest.mark.parametrize("name", MODELS)
def test_grpc(server: Server, name: str) -> None:
    model, x = case(MODELS[name])

    async def ask() -> None:
        client = kserve.InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}")
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(name)
        for binary in (False, True):
            answer = await client.infer(request(name, model, x, binary))
            assert np.array_equal(answer.outputs[0].as_numpy(), model(x)), binary
        await client.close()

    asyncio.run(ask())
