"""A mixture density network: the negative log-likelihood may fall below zero."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 15))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for step in range(200):
    x = 2 * torch.rand(128, 1) - 1
    y = torch.where(torch.rand(128, 1) < 0.5, 0.5 * x, -0.5 * x) + 0.03 * torch.randn(128, 1)
    weight, mean, spread = net(x).chunk(3, 1)
    spread = torch.nn.functional.softplus(spread) + 0.01
    parts = torch.distributions.Normal(mean, spread).log_prob(y) + weight.log_softmax(1)
    loss = -torch.logsumexp(parts, 1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
