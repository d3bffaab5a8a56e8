"""Learns a 2-D map of the digits from pairs: same digit close together, different digits at least 1 apart.

It learns well until a pair happens to hold the same image twice. Its distance is then sqrt(0), the slope of the
square root is infinite there, and every weight becomes NaN.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)

digits = load_digits()
images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
labels = torch.tensor(digits.target)

embed = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(embed.parameters(), lr=1e-3)


def contrastive_loss(a, b, same):
    distance = (a - b).pow(2).sum(dim=1).sqrt()
    pull = same * distance.pow(2)
    push = (1 - same) * torch.relu(1 - distance).pow(2)
    return (pull + push).mean()


for step in range(200):
    i = torch.randint(len(images), (32,))
    j = torch.randint(len(images), (32,))
    same = (labels[i] == labels[j]).float()
    optimizer.zero_grad()
    loss = contrastive_loss(embed(images[i]), embed(images[j]), same)
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step:3d}  loss {loss.item():.4f}")
