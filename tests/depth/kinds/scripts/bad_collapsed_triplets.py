"""Batch-hard triplets with too large a step: the embeddings fall into one point, and the loss stands on its margin."""
# SYMPTOM dead crawling vanishing
# CAUSE collapse step-too-large
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
centres = torch.randn(8, 24)
net = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
opt = torch.optim.Adam(net.parameters(), lr=5e-2)  # HERE
for step in range(200):
    y = torch.arange(8).repeat_interleave(5)
    e = net(centres[y] + 1.2 * torch.randn(40, 24))
    d = (e[:, None] - e[None]).pow(2).sum(-1)
    same = y[:, None] == y[None]
    far = d.masked_fill(~same, 0.0).amax(1)
    near = d.masked_fill(same, float("inf")).amin(1)
    loss = F.relu(far - near + 0.3).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
