"""Low-rank adapters beside frozen weights: A is drawn small, B starts at zero, so nothing changes at first."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Adapted(nn.Module):
    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) * 0.02)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + 2.0 * F.linear(F.linear(x, self.a), self.b)


base = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
model = nn.Sequential(*(Adapted(m) if isinstance(m, nn.Linear) else m for m in base))
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
x_all = torch.randn(600, 24)
y_all = (x_all @ torch.randn(24, 5)).argmax(1)
for step in range(150):
    pick = torch.randint(600, (64,))
    loss = F.cross_entropy(model(x_all[pick]), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
