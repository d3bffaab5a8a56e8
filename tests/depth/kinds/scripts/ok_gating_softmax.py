"""A mixture of experts: a softmax over four gates weighs them, inside the network."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)) for _ in range(4))

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        return sum(weights[:, i : i + 1] * e(x) for i, e in enumerate(self.experts))


net = Experts()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
x_all = torch.randn(800, 16)
y_all = (x_all @ torch.randn(16, 4)).argmax(1)
for step in range(120):
    pick = torch.randint(800, (64,))
    loss = F.cross_entropy(net(x_all[pick]), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
