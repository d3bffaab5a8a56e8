"""The weights live in numpy; a tensor is made of them at each step."""
import numpy as np
import torch

torch.manual_seed(0)
x = torch.randn(200, 8)
y = torch.tanh(x @ torch.randn(8, 1))
w = (torch.randn(8, 1) / 3).numpy()
b = np.zeros(1, dtype=np.float32)
for step in range(80):
    wt, bt = torch.tensor(w, requires_grad=True), torch.tensor(b, requires_grad=True)
    loss = (torch.tanh(x @ wt + bt) - y).pow(2).mean()
    loss.backward()
    w = w - 0.5 * wt.grad.numpy()
    b = b - 0.5 * bt.grad.numpy()
print(loss.item())
