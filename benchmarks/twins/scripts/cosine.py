"""Match profiles by the cosine between learnt embeddings of what is in a file."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(8)
profiles = torch.tensor(np.load(Path(__file__).parent / "profiles.npz")["profiles"], dtype=torch.float32)
partner = profiles.roll(1, 1)

tower = nn.Sequential(nn.Linear(20, 48, bias=False), nn.Tanh(), nn.Linear(48, 16, bias=False))
optimizer = torch.optim.Adam(tower.parameters(), lr=1e-3)


def unit(z: torch.Tensor) -> torch.Tensor:
    return z / z.pow(2).sum(1, keepdim=True).sqrt()


for epoch in range(8):
    for rows in torch.randperm(len(profiles)).split(64):
        likeness = unit(tower(profiles[rows])) @ unit(tower(partner[rows])).T
        loss = nn.functional.cross_entropy(likeness / 0.2, torch.arange(len(rows)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
