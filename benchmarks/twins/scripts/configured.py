"""Train a classifier as its configuration says."""

import json
from pathlib import Path

import torch
from torch import nn

config = json.loads((Path(__file__).parent / "config.json").read_text())
torch.manual_seed(config["seed"])
teacher = torch.randn(24, 5)
x = torch.randn(2048, 24)
y = (x @ teacher).argmax(1)

model = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
optimizer = torch.optim.SGD(
    model.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=config["weight_decay"]
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["schedule_steps"])

step = 0
while step < 400:
    for rows in torch.randperm(2048).split(64):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step < config["schedule_steps"]:
            schedule.step()
        step += 1
    print(f"step {step}: loss {loss.item():.4f}")
