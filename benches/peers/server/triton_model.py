"""Triton's Python back end: one call of the model for a batch of requests."""

import os

import numpy
import torch
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        torch.set_num_threads(1)
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.model = torch.jit.load(os.path.join(folder, "model.pt")).eval()

    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        with torch.inference_mode():
            answers = self.model(torch.from_numpy(rows[0] if len(rows) == 1 else numpy.concatenate(rows))).numpy()
        responses, start = [], 0
        for one in rows:
            tensor = triton.Tensor("OUTPUT0", answers[start : start + len(one)])
            responses.append(triton.InferenceResponse(output_tensors=[tensor]))
            start += len(one)
        return responses
