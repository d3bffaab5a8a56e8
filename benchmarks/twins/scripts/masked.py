"""Tag sentences of different lengths with one layer of attention; lengths come from a file."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(7)
corpus = np.load(Path(__file__).parent / "corpus.npz")
tokens = torch.tensor(corpus["tokens"], dtype=torch.long)
lengths = torch.tensor(corpus["lengths"], dtype=torch.long)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 32)
        self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 2)

    def forward(self, words: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        h = self.embed(words)
        scores = self.query(h) @ self.key(h).transpose(1, 2) / 32**0.5
        padding = torch.arange(words.shape[1]) >= length[:, None]
        scores = scores.masked_fill(padding[:, None, :], float("-inf"))
        mixed = scores.softmax(-1) @ self.value(h)
        return self.head((mixed * ~padding[..., None]).sum(1))


model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
label = (tokens < 10).float().mean(1).gt(1 / 3).long()
for epoch in range(10):
    for rows in torch.randperm(len(tokens)).split(32):
        loss = nn.functional.cross_entropy(model(tokens[rows], lengths[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
