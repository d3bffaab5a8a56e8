"""Go on with the training of a deep tanh network from a checkpoint."""

from pathlib import Path

import torch
from torch import nn

torch.manual_seed(6)
layers: list[nn.Module] = []
for _ in range(10):
    layers += [nn.Linear(48, 48), nn.Tanh()]
model = nn.Sequential(nn.Linear(10, 48), nn.Tanh(), *layers, nn.Linear(48, 1))
model.load_state_dict(torch.load(Path(__file__).parent / "checkpoint.pt", weights_only=True))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

x = torch.randn(1024, 10)
y = torch.tanh(x[:, :1] + x[:, 1:2] * x[:, 2:3])
for epoch in range(15):
    for rows in torch.randperm(1024).split(64):
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
