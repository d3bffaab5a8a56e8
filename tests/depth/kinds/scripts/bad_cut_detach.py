"""The first network's answer goes into the second by a way that takes it out of the graph."""
# SYMPTOM disconnected
# CAUSE disconnected-parameters
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(600, 20)
y_all = (x_all @ torch.randn(20, 4)).argmax(1)
first, second = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)), nn.Linear(4, 4)
opt = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=3e-3)
for step in range(40):
    pick = torch.randint(600, (64,))
    scores = first(x_all[pick])
    code = scores.detach()  # HERE
    loss = F.cross_entropy(second(code), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
