"""Two noisy views of each sample, brought together by InfoNCE over the batch."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
factors = torch.randn(2000, 6)
mix = torch.randn(6, 32)
net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(150):
    x = factors[torch.randint(2000, (64,))] @ mix
    a, b = (F.normalize(net(x + 0.3 * torch.randn_like(x)), dim=1) for _ in range(2))
    loss = F.cross_entropy(a @ b.T / 0.2, torch.arange(64))
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
