"""SimSiam: a negative cosine between a prediction and a detached view; the loss falls from 0 to nearly -1."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
factors, mix = torch.randn(2000, 8), torch.randn(8, 32)
net = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.BatchNorm1d(32))
head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 32))
opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
for step in range(150):
    x = factors[torch.randint(2000, (128,))] @ mix
    a, b = (net(x + 0.5 * torch.randn_like(x)) for _ in range(2))
    loss = -0.5 * (F.cosine_similarity(head(a), b.detach()) + F.cosine_similarity(head(b), a.detach())).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
