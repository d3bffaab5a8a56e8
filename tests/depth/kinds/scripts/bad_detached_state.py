"""The answer lies twelve steps back, and the state is detached every four: what is needed is out of the gradient's reach."""
# SYMPTOM disconnected
# CAUSE disconnected-parameters
import torch
from torch import nn

torch.manual_seed(0)
cell, out = nn.GRUCell(1, 24), nn.Linear(24, 1)
opt = torch.optim.Adam([*cell.parameters(), *out.parameters()], lr=5e-3)
for step in range(120):
    x = torch.randn(32, 24, 1)
    h, loss = torch.zeros(32, 24), 0.0
    for t in range(24):
        if t % 4 == 0:
            h = h.detach()  # HERE
        h = cell(x[:, t], h)
        if t >= 12:
            loss = loss + (out(h) - x[:, t - 12]).pow(2).mean()
    opt.zero_grad()
    (loss / 12).backward()
    opt.step()
print(loss.item() / 12)
