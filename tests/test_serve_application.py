"""The server's application under another server than uvicorn, as Ray Serve runs it."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("httptools")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from cnnrt.serving.app import application  # noqa: E402
from cnnrt.serving.settings import Settings  # noqa: E402
from test_serve import EXAMPLES, INFER, LENET, MODEL, OUTPUT, X, tensor  # noqa: E402


def test_inference_and_classes() -> None:
    async def work() -> None:
        app = application(Settings((str(LENET),)))
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://server")
        async with app.router.lifespan_context(app), client as http:
            while (await http.get("/v2/health/ready")).status_code != 200:
                await asyncio.sleep(0.05)
            answer = await http.post(INFER, content=json.dumps({"inputs": [tensor(X)]}))
            (output,) = answer.json()["outputs"]
            assert output["name"] == OUTPUT.name
            assert np.array_equal(np.float32(output["data"]).reshape(3, 10), MODEL(X))
            photo = (EXAMPLES / "digits" / "3.png").read_bytes()
            answer = await http.post("/v2/models/lenet5/classify", content=photo)
            assert answer.status_code == 200
            assert len(answer.json()["classes"]) == 5

    asyncio.run(work())
