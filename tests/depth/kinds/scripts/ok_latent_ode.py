"""A variational autoencoder whose decoder integrates an ordinary differential equation, 40 steps of Euler."""

import torch
from torch import nn

torch.manual_seed(0)
times = torch.linspace(0, 4, 40)


class LatentODE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(1, 24, batch_first=True)
        self.to_latent = nn.Linear(24, 8)
        self.field = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4))
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        _, h = self.encoder(x.flip(1))
        mean, logvar = self.to_latent(h[-1]).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        states = []
        for _ in range(len(times)):
            z = z + 0.1 * self.field(z)
            states.append(z)
        return self.out(torch.stack(states, 1)), mean, logvar


model = LatentODE()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(80):
    phase = torch.rand(32, 1) * 6
    x = torch.sin(times[None] * 1.5 + phase)[..., None] + 0.05 * torch.randn(32, 40, 1)
    answer, mean, logvar = model(x)
    kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1).mean()
    loss = (answer - x).pow(2).mean() + 1e-3 * kl
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
