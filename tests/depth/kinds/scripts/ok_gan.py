"""A generator and a discriminator, each with an optimizer of its own."""

import torch
from torch import nn

torch.manual_seed(0)
gen = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
dis = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
of_gen, of_dis = torch.optim.Adam(gen.parameters(), 1e-3), torch.optim.Adam(dis.parameters(), 1e-3)
bce = nn.BCEWithLogitsLoss()
for step in range(200):
    real = 0.3 * torch.randn(64, 2) + 2
    fake = gen(torch.randn(64, 4))
    loss_dis = bce(dis(real), torch.ones(64, 1)) + bce(dis(fake.detach()), torch.zeros(64, 1))
    of_dis.zero_grad()
    loss_dis.backward()
    of_dis.step()
    loss_gen = bce(dis(gen(torch.randn(64, 4))), torch.ones(64, 1))
    of_gen.zero_grad()
    loss_gen.backward()
    of_gen.step()
print(loss_dis.item(), loss_gen.item())
