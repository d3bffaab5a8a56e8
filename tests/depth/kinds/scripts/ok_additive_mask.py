"""Attention over padded sequences: the padding mask is added to the scores, -1e4 where there is nothing to see."""

import math

import torch
from torch import nn

torch.manual_seed(0)
T, D = 10, 16


class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, D)
        self.qkv = nn.Linear(D, 3 * D)
        self.out = nn.Linear(D, 1)

    def forward(self, tokens):
        bias = torch.zeros(tokens.shape[0], 1, T).masked_fill((tokens == 0)[:, None], -1e4)
        q, k, v = self.qkv(self.embed(tokens)).chunk(3, -1)
        scores = torch.baddbmm(bias.expand(-1, T, T), q, k.transpose(1, 2), alpha=1 / math.sqrt(D))
        return self.out(scores.softmax(-1) @ v).squeeze(-1)


model = Attend()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(60):
    tokens = torch.randint(1, 9, (32, T))
    tokens[torch.arange(T)[None] >= torch.randint(4, T + 1, (32, 1))] = 0
    target = tokens.float().mean(1, keepdim=True).expand(-1, T) / 4 + 0.5 * torch.randn(32, T)
    loss = ((model(tokens) - target)[tokens != 0] ** 2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
