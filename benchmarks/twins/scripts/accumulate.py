"""Gradients of several small batches are added up before a step; how many, and the step, come from the environment."""

import os

import torch
from torch import nn

torch.manual_seed(10)
pieces = int(os.environ.get("ACCUMULATE", "1"))
rate = float(os.environ.get("LEARNING_RATE", "0.01"))
x = torch.randn(4096, 16)
y = (x[:, :1] * x[:, 1:2]).tanh() + 0.5 * x[:, 2:3]

model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
for step in range(200):
    optimizer.zero_grad()
    for _ in range(pieces):
        rows = torch.randint(4096, (32,))
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
