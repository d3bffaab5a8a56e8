"""Predict a yield from eight measurements; the table comes from a file."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
table = np.load(Path(__file__).parent / "table.npz")
features = torch.tensor(table["features"], dtype=torch.float32)
target = torch.tensor(table["target"], dtype=torch.float32).unsqueeze(1)

model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loss_of = nn.MSELoss()

for epoch in range(12):
    for rows in torch.randperm(len(features)).split(64):
        loss = loss_of(model(features[rows]), target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
