"""Diabetes progression from ten measurements, by full-batch gradient descent.

The loss should fall to about 0.48. It rises instead, faster and faster: the step is a little too long.
"""

import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)

data = load_diabetes()
x = torch.tensor(StandardScaler().fit_transform(data.data), dtype=torch.float32)
y = torch.tensor(StandardScaler().fit_transform(data.target[:, None]), dtype=torch.float32)

model = nn.Linear(10, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.26)
loss_fn = nn.MSELoss()

for step in range(100):
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step:3d}  loss {loss.item():.4g}")
