"""L-BFGS with a closure, many backward calls to a step."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(200, 6)
y = torch.sin(x @ torch.randn(6, 1))
net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.LBFGS(net.parameters(), max_iter=5)


def closure():
    opt.zero_grad()
    loss = (net(x) - y).pow(2).mean()
    loss.backward()
    return loss


for step in range(20):
    loss = opt.step(closure)
print(loss.item())
