"""A vector-quantised autoencoder: argmin picks a code, the gradient goes straight through."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
centres = torch.randn(12, 16)
encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 6))
decoder = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 16))
codes = nn.Parameter(0.3 * torch.randn(16, 6))
opt = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), codes], lr=3e-3)
for step in range(200):
    x = centres[torch.randint(12, (64,))] + 0.1 * torch.randn(64, 16)
    z = encoder(x)
    q = codes[torch.cdist(z.detach(), codes.detach()).argmin(1)]
    loss = (q - z.detach()).pow(2).mean() + 0.25 * (z - q.detach()).pow(2).mean()
    loss = loss + F.mse_loss(decoder(z + (q - z).detach()), x)
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
