"""A bandit learnt by policy gradient: the loss is noise about zero, the reward rises."""

import torch
from torch import nn

torch.manual_seed(0)
means = torch.linspace(-1, 1, 5)
policy = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 5))
opt = torch.optim.Adam(policy.parameters(), lr=5e-3)
baseline = 0.0
for step in range(400):
    context = torch.randn(16, 3)
    arm = torch.distributions.Categorical(logits=policy(context))
    action = arm.sample()
    reward = means[action] + torch.randn(16)
    loss = -(arm.log_prob(action) * (reward - baseline)).mean()
    baseline = 0.9 * baseline + 0.1 * reward.mean().item()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(reward.mean().item())
