"""Writes the models that all servers serve, as TorchScript, with what they answer to a row: `export.py FOLDER`."""

import json
import os
import sys

import torch
from torch import nn


class Block(nn.Module):
    """A basic block of ResNet."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside))
        self.second = nn.Sequential(nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside))
        same = stride == 1 and inside == outside
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))


def resnet18():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inside, outside, stride), Block(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


MODELS = {
    "mlp": (nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)), [64]),
    "resnet18": (resnet18(), [3, 64, 64]),
}

if __name__ == "__main__":
    torch.manual_seed(1)
    torch.set_num_threads(1)
    for name, (model, shape) in MODELS.items():
        row = (torch.arange(torch.Size(shape).numel()) * 7 % 17 / 16.0).reshape(1, *shape)
        with torch.inference_mode():
            script = torch.jit.script(model.eval())
            answer = script(row)[0].tolist()
        script.save(os.path.join(sys.argv[1], f"{name}.pt"))
        with open(os.path.join(sys.argv[1], f"{name}.json"), "w") as file:
            json.dump({"shape": shape, "row": row.flatten().tolist(), "answer": answer}, file)
