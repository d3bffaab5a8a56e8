"""No optimizer: the weights are bound anew at each step."""
import torch

torch.manual_seed(0)
x = torch.randn(200, 8)
y = x @ torch.randn(8, 1) + 0.1 * torch.randn(200, 1)
W1 = (torch.randn(8, 16) / 3).requires_grad_(True)
W2 = (torch.randn(16, 1) / 4).requires_grad_(True)
for step in range(120):
    loss = (torch.tanh(x @ W1) @ W2 - y).pow(2).mean()
    loss.backward()
    W1 = (W1 - 0.05 * W1.grad).detach().requires_grad_(True)
    W2 = (W2 - 0.05 * W2.grad).detach().requires_grad_(True)
print(loss.item())
