"""Handwritten digits: a small network in two parameter groups, Adam, a warm-up, a clip."""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(7)
table = load_digits()
images = torch.tensor(table.data, dtype=torch.float32) / 8.0 - 1.0
labels = torch.tensor(table.target)

body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
head = nn.Linear(64, 10)
model = nn.Sequential(body, head)
start = copy.deepcopy(model.state_dict())
optimizer = torch.optim.Adam(
    [{"params": body.parameters(), "lr": 4e-3}, {"params": head.parameters(), "lr": 4e-3}],
    weight_decay=1e-4,
)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))

for step in range(50):
    rows = torch.randint(len(images), (128,))
    picture, label = images[rows], labels[rows]
    optimizer.zero_grad()
    logits = model(picture)
    loss = nn.functional.cross_entropy(logits, label)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    schedule.step()
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.4f}")
