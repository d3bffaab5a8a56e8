"""The step is taken by SciPy: weights go over as one flat array of numbers, gradients come back."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

torch.manual_seed(0)
x = torch.randn(200, 6)
y = torch.sin(x @ torch.randn(6, 1))
net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def value(flat):
    nn.utils.vector_to_parameters(torch.tensor(flat, dtype=torch.float32), net.parameters())
    net.zero_grad()
    loss = (net(x) - y).pow(2).mean()
    loss.backward()
    grad = nn.utils.parameters_to_vector([p.grad for p in net.parameters()])
    return loss.item(), grad.numpy().astype(np.float64)


start = nn.utils.parameters_to_vector(net.parameters()).detach().numpy().astype(np.float64)
print(minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 40}).fun)
