"""Adversarial training in which nobody clears the gradients of the parameters."""

# SYMPTOM oscillating diverging
# CAUSE missing-zero-grad
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(512, 20)
y_all = (x_all @ torch.randn(20, 4)).argmax(1)
model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 4))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(150):
    pick = torch.randint(512, (64,))
    x, y = x_all[pick].clone().requires_grad_(True), y_all[pick]
    for _ in range(2):
        (g,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        x = (x + 0.02 * g.sign()).detach().requires_grad_(True)
    loss = F.cross_entropy(model(x.detach()), y)
    loss.backward()
    opt.step()  # HERE
print(loss.item())
