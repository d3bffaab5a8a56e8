"""Layers of one's own whose weights are drawn with unit variance, whatever the width."""
# SYMPTOM exploding dead vanishing crawling diverging
# CAUSE init-too-large saturating-activation
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(600, 20)
y_all = (x_all @ torch.randn(20, 4)).argmax(1)


class Dense(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.w = nn.Parameter(torch.randn(a, b))  # HERE
        self.b = nn.Parameter(torch.zeros(b))

    def forward(self, x):
        return x @ self.w + self.b


layers = nn.ModuleList([Dense(20, 128), Dense(128, 128), Dense(128, 128), Dense(128, 4)])
opt = torch.optim.SGD(layers.parameters(), lr=0.01)
for step in range(120):
    pick = torch.randint(600, (64,))
    h = x_all[pick]
    for layer in layers[:-1]:
        h = torch.tanh(layer(h))  # HERE
    loss = F.cross_entropy(layers[-1](h), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
