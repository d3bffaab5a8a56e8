"""Forward-forward: each layer has a loss of its own and gets its input detached."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(800, 20)
y_all = (x_all @ torch.randn(20, 3)).argmax(1)


def labelled(x, y):
    return torch.cat([x, 3 * F.one_hot(y, 3).float()], 1)


class Layer(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.linear = nn.Linear(a, b)
        self.opt = torch.optim.Adam(self.parameters(), lr=3e-3)

    def forward(self, x):
        return torch.relu(self.linear(x / (x.norm(dim=1, keepdim=True) + 1e-4)))

    def learn(self, good, bad):
        g, b = self(good).pow(2).mean(1), self(bad).pow(2).mean(1)
        loss = F.softplus(torch.cat([1.0 - g, b - 1.0])).mean()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return self(good).detach(), self(bad).detach(), loss.item()


layers = [Layer(23, 64), Layer(64, 64), Layer(64, 64)]
for step in range(150):
    pick = torch.randint(800, (64,))
    x, y = x_all[pick], y_all[pick]
    good, bad = labelled(x, y), labelled(x, (y + torch.randint(1, 3, y.shape)) % 3)
    for layer in layers:
        good, bad, loss = layer.learn(good, bad)
print(loss)
