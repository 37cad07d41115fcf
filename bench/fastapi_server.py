"""The plain server that tutorials build: FastAPI around a session of onnxruntime.

    python bench/fastapi_server.py model.onnx --threads 2 --port 8001

`POST /predict` takes the bytes of float32 images and answers with those of their scores.
"""

import argparse

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

app = FastAPI()


@app.get("/")
def ready() -> str:
    return "ready"


@app.post("/predict")
async def predict(request: Request) -> Response:
    x = np.frombuffer(await request.body(), np.float32).reshape(-1, *app.state.shape)
    (y,) = await run_in_threadpool(app.state.session.run, None, {app.state.name: x})
    return Response(y.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--port", type=int, default=8001)
    chosen = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen.threads
    app.state.session = onnxruntime.InferenceSession(
        chosen.model, options, providers=["CPUExecutionProvider"]
    )
    (spec,) = app.state.session.get_inputs()
    app.state.name, app.state.shape = spec.name, spec.shape[1:]
    uvicorn.run(app, port=chosen.port, log_level="warning")
