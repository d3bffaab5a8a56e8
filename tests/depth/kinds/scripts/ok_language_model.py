"""A small recurrent language model, the state carried on and detached from piece to piece."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
text = torch.tensor([ord(c) - 96 if c.isalpha() else 0 for c in "the quick brown fox jumps over the lazy dog " * 120])
width = len(text) // 8
stream = text[: 8 * width].view(8, width)
embed, rnn, out = nn.Embedding(27, 16), nn.LSTM(16, 48, batch_first=True), nn.Linear(48, 27)
params = [*embed.parameters(), *rnn.parameters(), *out.parameters()]
opt = torch.optim.Adam(params, lr=5e-3)
for epoch in range(4):
    state = None
    for i in range(0, width - 21, 20):
        h, state = rnn(embed(stream[:, i : i + 20]), state)
        state = tuple(s.detach() for s in state)
        loss = F.cross_entropy(out(h).flatten(0, 1), stream[:, i + 1 : i + 21].reshape(-1))
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
print(loss.item())
