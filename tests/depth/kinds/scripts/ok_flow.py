"""A normalising flow of affine couplings, the last layer of each coupling starting at zero."""

import torch
from torch import nn

torch.manual_seed(0)


class Coupling(nn.Module):
    def __init__(self, turn):
        super().__init__()
        self.turn = turn
        self.net = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        a, b = (b, a) if self.turn else (a, b)
        scale, shift = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        b = b * scale.exp() + shift
        return torch.cat([a, b], 1), scale.sum(1)


layers = nn.ModuleList(Coupling(i % 2) for i in range(6))
opt = torch.optim.Adam(layers.parameters(), lr=3e-3)
for step in range(150):
    x = torch.randn(128, 2)
    x[:, 1] = 0.3 * x[:, 1] + x[:, 0] ** 2 - 1
    z, log_det = x, 0.0
    for layer in layers:
        z, d = layer(z)
        log_det = log_det + d
    loss = (0.5 * z.pow(2).sum(1) + 1.8379 - log_det).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
