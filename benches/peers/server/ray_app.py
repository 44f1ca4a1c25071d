"""Ray Serve with its dynamic batches: `ray_app.py PORT` with PEER_MODEL."""

import os
import signal
import sys

import ray
import torch
from ray import serve


@serve.deployment(max_ongoing_requests=256)
class Model:
    def __init__(self, path):
        torch.set_num_threads(1)
        self.model = torch.jit.load(path).eval()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)
    async def rows(self, rows):
        with torch.inference_mode():
            return list(self.model(torch.stack(rows)))

    async def __call__(self, request):
        tensor = (await request.json())["inputs"][0]
        answer = await self.rows(torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"][1:]))
        return {"outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [1, len(answer)], "data": answer.tolist()}]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Model.bind(os.environ["PEER_MODEL"]), route_prefix="/infer")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
