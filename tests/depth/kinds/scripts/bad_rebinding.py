"""No optimizer, weights bound anew at each step, and a learning rate that is too large."""
# SYMPTOM diverging not-finite
# CAUSE step-too-large
import torch

torch.manual_seed(0)
x = torch.randn(200, 8)
y = x @ torch.randn(8, 1) + 0.1 * torch.randn(200, 1)
W1 = (torch.randn(8, 16) / 3).requires_grad_(True)
W2 = (torch.randn(16, 1) / 4).requires_grad_(True)
for step in range(60):
    loss = ((x @ W1) @ W2 - y).pow(2).mean()  # HERE
    g1, g2 = torch.autograd.grad(loss, [W1, W2])
    W1 = (W1 - 3.0 * g1).detach().requires_grad_(True)
    W2 = (W2 - 3.0 * g2).detach().requires_grad_(True)
print(loss.item())
