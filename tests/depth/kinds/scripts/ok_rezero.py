"""Forty residual blocks whose branch starts at zero (ReZero)."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.linear, self.scale = nn.Linear(d, d), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.scale * torch.relu(self.linear(x))


net = nn.Sequential(nn.Linear(16, 32), *(Block(32) for _ in range(40)), nn.Linear(32, 4))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
x_all = torch.randn(500, 16)
y_all = (x_all @ torch.randn(16, 4)).argmax(1)
for step in range(80):
    pick = torch.randint(500, (64,))
    loss = F.cross_entropy(net(x_all[pick]), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
