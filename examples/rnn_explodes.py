"""Digits read one pixel at a time by a hand-written recurrent network whose weights are drawn too large.

Every one of the 64 time steps multiplies the gradient by the same matrix, so it grows geometrically on its way back.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)

digits = load_digits()
pixels = torch.tensor(digits.data / 16.0, dtype=torch.float32).unsqueeze(-1)  # (samples, 64 time steps, 1)
labels = torch.tensor(digits.target)


class PixelReader(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.read = nn.Linear(1, hidden)
        self.recur = nn.Parameter(0.2 * torch.randn(hidden, hidden))
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        h = torch.zeros(len(x), self.recur.shape[0])
        for t in range(x.shape[1]):
            h = torch.relu(self.read(x[:, t]) + h @ self.recur)
        return self.head(h)


model = PixelReader()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()

for step in range(50):
    batch = torch.randint(len(pixels), (64,))
    optimizer.zero_grad()
    loss = loss_fn(model(pixels[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    if step < 3 or step % 10 == 9:
        print(f"step {step:3d}  loss {loss.item():.4g}")
