"""An energy-based model: negatives by Langevin steps on the input, the difference of energies as the loss."""

import torch
from torch import nn

torch.manual_seed(0)
energy = nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1))
opt = torch.optim.Adam(energy.parameters(), lr=1e-3)
for step in range(120):
    real = torch.randn(64, 2) * torch.tensor([0.3, 1.0])
    x = torch.randn(64, 2)
    for _ in range(8):
        x = x.detach().requires_grad_(True)
        (g,) = torch.autograd.grad(energy(x).sum(), x)
        x = x - 0.1 * g + 0.1 * torch.randn_like(x)
    x = x.detach()
    up, down = energy(real), energy(x)
    loss = up.mean() - down.mean() + 0.1 * (up**2 + down**2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
