"""What the training scripts share: their beginning, their data, and their loops."""

from __future__ import annotations

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(7)
record = []
x_all, y_all = torch.randn(40, 6), torch.randint(3, (40,))
"""

LOOP = """
for step in range(6):
    batch = torch.randperm(40)[:16]
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all[batch]), y_all[batch])
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
"""

SOME = """
def some(n):
    for step in range(n):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
"""

MLP = "nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)"


def net(layers: str, optimizer: str) -> str:
    return f"{HEAD}\nmodel = nn.Sequential({layers})\noptimizer = torch.optim.{optimizer}\n{LOOP}"
