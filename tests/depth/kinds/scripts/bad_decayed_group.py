"""A weight decay of one half in the group of the weights: they shrink to nothing."""
# SYMPTOM crawling vanishing
# CAUSE over-regularised
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
X = torch.randn(800, 16); Y = (X @ torch.randn(16, 5)).argmax(1)
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
opt = torch.optim.Adam([{"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": 0.5}, {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0}], lr=1e-3)  # HERE
for s in range(200):
    i = torch.randint(800, (64,)); l = F.cross_entropy(net(X[i]), Y[i]); opt.zero_grad(); l.backward(); opt.step()
print(l.item())
