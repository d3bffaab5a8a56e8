"""One odd batch makes a spike in the loss; the run goes on below where it began."""

import torch
from torch import nn

torch.manual_seed(0)
w = torch.randn(12, 1)
model = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(200):
    x = torch.randn(64, 12)
    y = x @ w / 3 + 0.6 * torch.randn(64, 1)
    if step == 90:
        y = y + 5.0
    loss = (model(x) - y).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
