"""A student learns from a teacher whose scores are made without gradients."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
teacher = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 5))
for p in teacher.parameters():
    p.data.mul_(2.0)
student = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 5))
opt = torch.optim.Adam(student.parameters(), lr=3e-3)
for step in range(150):
    x = torch.randn(64, 16)
    with torch.no_grad():
        wanted = F.softmax(teacher(x), 1)
    loss = F.kl_div(F.log_softmax(student(x), 1), wanted, reduction="batchmean")
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
