"""Q-learning on a chain of states: the targets move with the network, and the loss rises before it falls."""

import copy
import random

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
random.seed(0)
N = 6
net = nn.Sequential(nn.Linear(N, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.deepcopy(net)
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
eye, memory, state = torch.eye(N), [], 0
for step in range(600):
    greedy = net(eye[state]).argmax().item()
    action = random.randrange(2) if random.random() < 0.4 else greedy
    after = min(state + 1, N - 1) if action else max(state - 1, 0)
    reward = 10.0 if after == N - 1 else 0.0
    memory.append((state, action, reward, after))
    state = 0 if after == N - 1 else after
    if len(memory) < 32:
        continue
    s, a, r, n = map(torch.tensor, zip(*random.sample(memory, 32)))
    with torch.no_grad():
        goal = r + 0.9 * target(eye[n]).max(1).values
    loss = F.smooth_l1_loss(net(eye[s]).gather(1, a[:, None]).squeeze(1), goal)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        target.load_state_dict(net.state_dict())
print(loss.item())
