"""Two views of each sample are drawn together and nothing holds them apart: all embeddings become one point."""
# SYMPTOM dead crawling vanishing
# CAUSE collapse
import torch
from torch import nn

torch.manual_seed(0)
factors, mix = torch.randn(2000, 8), torch.randn(8, 32)
net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))  # HERE
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for step in range(200):
    x = factors[torch.randint(2000, (128,))] @ mix
    a, b = (net(x + 0.3 * torch.randn_like(x)) for _ in range(2))
    loss = (a - b).pow(2).sum(1).mean()  # HERE
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
