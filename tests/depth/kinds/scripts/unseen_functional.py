"""No optimizer and no backward: gradients by torch.func, parameters in a dict."""
import torch
from torch import nn
from torch.func import functional_call, grad_and_value

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 1))
params = {k: v.detach().clone() for k, v in net.named_parameters()}
w = torch.randn(8, 1)


def loss_of(params, x, y):
    return (functional_call(net, params, (x,)) - y).pow(2).mean()


for step in range(100):
    x = torch.randn(64, 8)
    grads, loss = grad_and_value(loss_of)(params, x, x @ w)
    params = {k: p - 0.05 * grads[k] for k, p in params.items()}
print(loss.item())
