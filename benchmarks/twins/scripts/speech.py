"""Align short utterances with their letters by CTC; both come from a file."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(11)
speech = np.load(Path(__file__).parent / "speech.npz")
frames = torch.tensor(speech["frames"], dtype=torch.float32)
letters = torch.tensor(speech["letters"], dtype=torch.long)
heard, spelled = torch.tensor(speech["heard"]), torch.tensor(speech["spelled"])

model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 6))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
ctc = nn.CTCLoss()

for epoch in range(10):
    for rows in torch.randperm(len(frames)).split(32):
        scores = model(frames[rows]).log_softmax(-1).transpose(0, 1)
        loss = ctc(scores, letters[rows], heard[rows], spelled[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
