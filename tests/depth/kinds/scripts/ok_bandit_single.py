"""A contextual bandit, one sample a step: where the reward is zero there is no gradient at all."""
import torch
from torch import nn
torch.manual_seed(0)
p = torch.linspace(0.1, 0.9, 4)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
W = torch.randn(4, 4)
for step in range(150):
    s = torch.randn(1, 4)
    d = torch.distributions.Categorical(torch.softmax(net(s), -1))
    a = d.sample()
    r = float((s @ W)[0, a.item()] > 0)
    loss = (-d.log_prob(a) * r).sum()
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
