"""A diffusion model of points on a ring: predict the noise, at a random time."""

import torch
from torch import nn

torch.manual_seed(0)
keep = torch.cumprod(1 - torch.linspace(1e-4, 0.05, 100), 0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Embedding(100, 16)
        self.body = nn.Sequential(nn.Linear(18, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        return self.body(torch.cat([x, self.time(t)], 1))


net = Net()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(250):
    angle = 6.283 * torch.rand(128)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    t, noise = torch.randint(100, (128,)), torch.randn(128, 2)
    noisy = keep[t, None].sqrt() * x + (1 - keep[t, None]).sqrt() * noise
    loss = (net(noisy, t) - noise).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
