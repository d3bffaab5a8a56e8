"""Actor and critic share a trunk; advantages are detached; losses of either sign."""

import torch
from torch import nn

torch.manual_seed(0)
trunk, actor, critic = nn.Sequential(nn.Linear(4, 32), nn.Tanh()), nn.Linear(32, 3), nn.Linear(32, 1)
opt = torch.optim.Adam([*trunk.parameters(), *actor.parameters(), *critic.parameters()], lr=3e-3)
w = torch.randn(4, 3)
for step in range(250):
    state = torch.randn(32, 4)
    h = trunk(state)
    choice = torch.distributions.Categorical(logits=actor(h))
    action = choice.sample()
    reward = (state @ w).gather(1, action[:, None]).squeeze(1) + 0.5 * torch.randn(32)
    value = critic(h).squeeze(1)
    advantage = (reward - value).detach()
    loss = -(choice.log_prob(action) * advantage).mean() + 0.5 * (reward - value).pow(2).mean()
    loss = loss - 0.01 * choice.entropy().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(reward.mean().item())
