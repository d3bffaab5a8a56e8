"""Train a deep plain network; what it is made of stands in its configuration."""

import json
from pathlib import Path

import torch
from torch import nn

config = json.loads((Path(__file__).parent / "config.json").read_text())
torch.manual_seed(config["seed"])
layers: list[nn.Module] = []
for i in range(config["depth"]):
    linear = nn.Linear(16 if i == 0 else config["width"], config["width"])
    nn.init.normal_(linear.weight, std=config["gain"] / linear.in_features**0.5)
    nn.init.zeros_(linear.bias)
    layers += [linear, getattr(nn, config["activation"])()]
model = nn.Sequential(*layers, nn.Linear(config["width"], 3))
optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)

x = torch.randn(1024, 16)
y = (x @ torch.randn(16, 3)).argmax(1)
for epoch in range(12):
    for rows in torch.randperm(1024).split(64):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
