"""The least that answers: FastAPI, one process, no batches. `uvicorn fastapi_app:app` with PEER_MODEL."""

import os

import torch
from fastapi import FastAPI, Request

torch.set_num_threads(1)
model = torch.jit.load(os.environ["PEER_MODEL"]).eval()
app = FastAPI()


@app.post("/infer")
async def infer(request: Request):
    tensor = (await request.json())["inputs"][0]
    with torch.inference_mode():
        answer = model(torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"]))
    return {"outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": list(answer.shape), "data": answer.flatten().tolist()}]}
