"""A Wasserstein critic with gradient penalty; five critic steps for one of the generator; losses of either sign."""

import torch
from torch import nn

torch.manual_seed(0)
gen = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
of_gen = torch.optim.Adam(gen.parameters(), 1e-3, betas=(0.0, 0.9))
of_critic = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.9))
for step in range(60):
    for _ in range(5):
        real, fake = 0.3 * torch.randn(64, 2) + 2, gen(torch.randn(64, 4)).detach()
        mixed = (real + torch.rand(64, 1) * (fake - real)).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        loss = critic(fake).mean() - critic(real).mean() + 10 * (slope.norm(dim=1) - 1).pow(2).mean()
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
    of_gen.zero_grad()
    (-critic(gen(torch.randn(64, 4))).mean()).backward()
    of_gen.step()
print(loss.item())
