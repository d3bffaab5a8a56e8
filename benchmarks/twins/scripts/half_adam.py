"""Read digits whose margins are always black; the number format is the environment's choice."""

import os

import torch
from torch import nn

torch.manual_seed(4)
dtype = getattr(torch, os.environ.get("TRAIN_DTYPE", "float32"))
prototypes = torch.rand(10, 64)
y = torch.randint(10, (1024,))
x = prototypes[y] + 0.2 * torch.randn(1024, 64)
x[:, :8] = 0.0

model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)).to(dtype)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(200):
    rows = torch.randint(1024, (64,))
    loss = nn.functional.cross_entropy(model(x[rows].to(dtype)).float(), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
