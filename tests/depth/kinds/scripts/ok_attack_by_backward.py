"""An attack by backward on the input, before zero_grad: what it leaves in the parameters is cleared."""
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
X = torch.randn(512, 20); Y = (X @ torch.randn(20, 4)).argmax(1)
model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 4))
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(150):
    p = torch.randint(512, (64,)); x, y = X[p], Y[p]
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(3):
        F.cross_entropy(model(x + delta), y).backward()
        delta.data = (delta + 0.02 * delta.grad.sign()).clamp(-0.1, 0.1)
        delta.grad.zero_()
    opt.zero_grad()
    loss = F.cross_entropy(model(x + delta.detach()), y)
    loss.backward()
    opt.step()
print(loss.item())
