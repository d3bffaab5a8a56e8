"""A weight decay of one half: the weights shrink to nothing, and the loss rests at that of knowing nothing."""
# SYMPTOM crawling vanishing
# CAUSE over-regularised
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(600, 20)
y_all = (x_all @ torch.randn(20, 4)).argmax(1)
net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)  # HERE
for step in range(200):
    pick = torch.randint(600, (64,))
    loss = F.cross_entropy(net(x_all[pick]), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
