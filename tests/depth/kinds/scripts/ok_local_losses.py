"""Greedy local learning: a head per block, blocks detached from each other, one optimizer for all."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(800, 20)
y_all = (x_all @ torch.randn(20, 4)).argmax(1)
blocks = nn.ModuleList(nn.Sequential(nn.Linear(20 if i == 0 else 40, 40), nn.ReLU()) for i in range(4))
heads = nn.ModuleList(nn.Linear(40, 4) for _ in range(4))
opt = torch.optim.Adam([*blocks.parameters(), *heads.parameters()], lr=3e-3)
for step in range(120):
    pick = torch.randint(800, (64,))
    h = x_all[pick]
    opt.zero_grad()
    for block, head in zip(blocks, heads):
        h = block(h.detach())
        loss = F.cross_entropy(head(h), y_all[pick])
        loss.backward()
    opt.step()
print(loss.item())
