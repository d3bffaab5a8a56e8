"""A sum of two marked numbers, read in pieces of five: the state is detached after each."""
# SYMPTOM disconnected
# CAUSE disconnected-parameters
import torch
from torch import nn
torch.manual_seed(0)
rnn = nn.LSTM(2, 32, batch_first=True); out = nn.Linear(32, 1); opt = torch.optim.Adam([*rnn.parameters(), *out.parameters()], lr=5e-3)
for s in range(80):
    x = torch.rand(32, 40, 2); x[..., 1] = 0; x[:, 2, 1] = 1; x[:, 7, 1] = 1
    y = (x[..., 0] * x[..., 1]).sum(1, keepdim=True)
    st = None
    for a in range(0, 40, 5):
        h, st = rnn(x[:, a:a + 5], st); st = tuple(v.detach() for v in st)  # HERE
    l = (out(h[:, -1]) - y).pow(2).mean(); opt.zero_grad(); l.backward(); opt.step()
print(l.item())
