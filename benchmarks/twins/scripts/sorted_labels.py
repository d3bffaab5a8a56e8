"""Classify spectra; batches are taken from the file as they come."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(2)
spectra = np.load(Path(__file__).parent / "spectra.npz")
x = torch.tensor(spectra["x"], dtype=torch.float32)
y = torch.tensor(spectra["y"], dtype=torch.long)

model = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(6):
    for rows in torch.arange(len(x)).split(32):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
