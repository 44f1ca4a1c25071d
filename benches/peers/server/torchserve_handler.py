"""TorchServe: a handler that answers a batch of requests at once."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    def initialize(self, context):
        torch.set_num_threads(1)
        super().initialize(context)

    def preprocess(self, requests):
        tensors = [(request.get("body") or request["data"])["inputs"][0] for request in requests]
        return torch.cat([torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"]) for tensor in tensors])

    def inference(self, rows):
        with torch.inference_mode():
            return self.model(rows)

    def postprocess(self, answer):
        columns = answer.shape[1]
        return [{"outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [1, columns], "data": row}]} for row in answer.tolist()]
