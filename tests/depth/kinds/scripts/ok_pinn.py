"""u'' = -sin x with u(0) = 0 and u(3) = sin 3: the residual by autograd twice."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
ends, values = torch.tensor([[0.0], [3.0]]), torch.sin(torch.tensor([[0.0], [3.0]]))
for step in range(200):
    x = (3 * torch.rand(64, 1)).requires_grad_(True)
    u = net(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    loss = (ddu + torch.sin(x)).pow(2).mean() + 10 * (net(ends) - values).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
