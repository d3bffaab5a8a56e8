"""Remember the first symbol of a sequence until its end; sequences come from a file."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(9)
symbols = torch.tensor(np.load(Path(__file__).parent / "sequences.npz")["symbols"], dtype=torch.long)


class Recall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 32)
        self.rnn = nn.RNN(32, 64, batch_first=True)
        self.head = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.rnn(self.embed(x))
        return self.head(states[:, -1])


model = Recall()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(250):
    rows = torch.randint(len(symbols), (64,))
    loss = nn.functional.cross_entropy(model(symbols[rows]), symbols[rows, 0])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
