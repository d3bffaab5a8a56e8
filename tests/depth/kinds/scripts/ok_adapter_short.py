"""Adapters on plain layers, whose second factor starts at zero; a short run."""
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
class Lora(nn.Module):
    def __init__(s, a, b, r=2):
        super().__init__(); s.base = nn.Linear(a, b).requires_grad_(False)
        s.A = nn.Parameter(torch.randn(r, a) * 0.01); s.B = nn.Parameter(torch.zeros(b, r))
    def forward(s, x): return s.base(x) + F.linear(F.linear(x, s.A), s.B)
net = nn.Sequential(Lora(16, 64), nn.Tanh(), Lora(64, 64), nn.Tanh(), Lora(64, 64), nn.Tanh(), Lora(64, 3))
opt = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
X = torch.randn(400, 16); Y = torch.sin(X[:, :3])
for step in range(25):
    loss = F.mse_loss(net(X), Y)
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
