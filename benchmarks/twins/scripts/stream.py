"""Fit a sensor's drift from a recording that is read in the order it was taken."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(1)
recording = np.load(Path(__file__).parent / "recording.npz")
signal = torch.tensor(recording["signal"], dtype=torch.float32)
drift = torch.tensor(recording["drift"], dtype=torch.float32)

model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

for step in range(len(signal) // 32):
    window = slice(32 * step, 32 * step + 32)
    loss = nn.functional.mse_loss(model(signal[window]), drift[window])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
