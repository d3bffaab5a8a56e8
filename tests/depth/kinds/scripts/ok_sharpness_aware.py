"""Sharpness-aware minimisation: up the gradient, a second backward there, back, and then the step."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(600, 16)
y_all = (x_all @ torch.randn(16, 4)).argmax(1)
net = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for step in range(120):
    pick = torch.randint(600, (64,))
    x, y = x_all[pick], y_all[pick]
    F.cross_entropy(net(x), y).backward()
    with torch.no_grad():
        size = torch.stack([p.grad.norm() for p in net.parameters()]).norm() + 1e-12
        way = [0.05 * p.grad / size for p in net.parameters()]
        for p, e in zip(net.parameters(), way):
            p.add_(e)
    opt.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    with torch.no_grad():
        for p, e in zip(net.parameters(), way):
            p.sub_(e)
    opt.step()
    opt.zero_grad()
print(loss.item())
