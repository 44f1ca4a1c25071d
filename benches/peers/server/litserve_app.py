"""LitServe with its dynamic batches: `litserve_app.py PORT` with PEER_MODEL."""

import os
import sys

import litserve
import torch


class Api(litserve.LitAPI):
    def setup(self, device):
        torch.set_num_threads(1)
        self.model = torch.jit.load(os.environ["PEER_MODEL"]).eval()

    def decode_request(self, request):
        tensor = request["inputs"][0]
        return torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"][1:])

    def batch(self, inputs):
        return torch.stack(inputs)

    def predict(self, batch):
        with torch.inference_mode():
            return self.model(batch)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [1, len(output)], "data": output.tolist()}]}


if __name__ == "__main__":
    api = Api(max_batch_size=64, batch_timeout=0.0)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
