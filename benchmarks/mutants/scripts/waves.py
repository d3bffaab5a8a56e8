"""The next value of noisy waves: a small GRU, SGD with momentum, a gradient scaler, a clip, an average of the weights."""

import copy

import torch
from torch import nn

torch.manual_seed(3)
times = torch.arange(33) * 0.3
speeds, phases = torch.rand(2048, 1) + 0.5, 6.28 * torch.rand(2048, 1)
waves = torch.sin(speeds * times + phases) + 0.02 * torch.randn(2048, 33)


class Forecast(nn.Module):
    """Read a series, and say its next value."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.GRU(1, 32, batch_first=True)
        self.answer = nn.Linear(32, 1)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Return the next value of every series, as one column."""
        states, _ = self.reader(series)
        return self.answer(states[:, -1])


model = Forecast()
average = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-5)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

for step in range(50):
    rows = torch.randint(len(waves), (128,))
    series, target = waves[rows, :-1, None], waves[rows, -1:]
    optimizer.zero_grad()
    output = model(series)
    loss = nn.functional.mse_loss(output, target)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    with torch.no_grad():
        for kept, weight in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(weight, 0.1)
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.4f}")
