"""MLServer: a custom runtime of the Open Inference Protocol."""

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Model(MLModel):
    async def load(self):
        torch.set_num_threads(1)
        self.model = torch.jit.load(self.settings.parameters.uri).eval()
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0])
        with torch.inference_mode():
            answer = self.model(torch.as_tensor(rows, dtype=torch.float32)).numpy()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("OUTPUT0", answer)])
