"""Meta-learning of sine waves: an inner step with create_graph, an outer step through it."""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for step in range(80):
    total = 0.0
    for _ in range(4):
        high, phase = 1 + 2 * torch.rand(1), 3 * torch.rand(1)
        x, again = 6 * torch.rand(20, 1) - 3, 6 * torch.rand(20, 1) - 3
        weights = dict(net.named_parameters())
        inner = F.mse_loss(functional_call(net, weights, (x,)), high * torch.sin(x + phase))
        grads = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        adapted = {name: w - 0.05 * g for (name, w), g in zip(weights.items(), grads)}
        total = total + F.mse_loss(functional_call(net, adapted, (again,)), high * torch.sin(again + phase))
    opt.zero_grad()
    (total / 4).backward()
    opt.step()
print(total.item() / 4)
