"""Fine-tune a small classifier; the number format is the environment's choice."""

import os

import torch
from torch import nn

torch.manual_seed(3)
dtype = getattr(torch, os.environ.get("TRAIN_DTYPE", "float32"))
teacher = torch.randn(20, 4)
x = torch.randn(1024, 20)
y = (x @ teacher).argmax(1)

model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)).to(dtype)
optimizer = torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9)

for epoch in range(30):
    for rows in torch.randperm(1024).split(64):
        loss = nn.functional.cross_entropy(model(x[rows].to(dtype)).float(), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(f"epoch {epoch}: loss {loss.item():.4f}")
