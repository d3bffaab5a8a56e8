"""Networks and optimizers, and ways to train them."""

from __future__ import annotations

from tests.depth.watch.training.parts import HEAD, LOOP, MLP, net

SCRIPTS: dict[str, str] = {
    "dropout": net("nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3)", "SGD(model.parameters(), lr=0.1)"),
    "batchnorm": net(
        "nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)", "SGD(model.parameters(), lr=0.1)"
    ),
    "inplace relu": net("nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Linear(16, 3)", "SGD(model.parameters(), lr=0.1)"),
    "momentum": net(MLP, "SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)"),
    "adam": net(MLP, "Adam(model.parameters(), lr=0.01)"),
    "adamw fused": net(MLP, "AdamW(model.parameters(), lr=0.01, fused=True)"),
    "rmsprop": net(MLP, "RMSprop(model.parameters(), lr=0.01)"),
    "no seed": net(MLP, "SGD(model.parameters(), lr=0.1)").replace("torch.manual_seed(7)", ""),
    "lbfgs": HEAD
    + """
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")
def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all), y_all)
    loss.backward()
    record.append(loss.detach().clone())
    return loss
for step in range(4):
    optimizer.step(closure)
""",
    "sgd closure": HEAD
    + """
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all), y_all)
    loss.backward()
    return loss
for step in range(4):
    record.append(optimizer.step(closure).detach().clone())
""",
    "lstm": HEAD
    + """
lstm, head = nn.LSTM(6, 8, num_layers=2, dropout=0.2, batch_first=True), nn.Linear(8, 3)
optimizer = torch.optim.SGD([*lstm.parameters(), *head.parameters()], lr=0.1)
series = torch.randn(40, 5, 6)
for step in range(5):
    optimizer.zero_grad()
    out, (h, c) = lstm(series)
    loss = F.cross_entropy(head(out[:, -1]), y_all)
    loss.backward()
    nn.utils.clip_grad_norm_(lstm.parameters(), 0.5)
    optimizer.step()
    record += [loss.detach().clone(), h.detach().clone()]
""",
    "transformer": HEAD
    + """
import warnings
warnings.simplefilter("ignore")
layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
model = nn.TransformerEncoder(layer, 2)
embed, head = nn.Linear(6, 8), nn.Linear(8, 3)
optimizer = torch.optim.SGD([*model.parameters(), *embed.parameters(), *head.parameters()], lr=0.05)
series = torch.randn(40, 5, 6)
mask = torch.zeros(40, 5, dtype=torch.bool)
mask[:, 4] = True
for step in range(6):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(head(model(embed(series), src_key_padding_mask=mask).mean(1)), y_all)
    loss.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        record += [loss.detach().clone(), model(embed(series), src_key_padding_mask=mask), model(embed(series))]
""",
    "transformer evaluated first": HEAD
    + """
layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
attention = nn.MultiheadAttention(8, 2, batch_first=True)
embed, head = nn.Linear(6, 8), nn.Linear(8, 3)
optimizer = torch.optim.SGD([*layer.parameters(), *attention.parameters(), *embed.parameters(), *head.parameters()], lr=0.05)
series = torch.randn(40, 5, 6)
for step in range(5):
    layer.eval(), attention.eval()
    with torch.inference_mode():
        e = embed(series)
        record += [layer(e).clone(), attention(e, e, e)[0].clone()]
    layer.train(), attention.train()
    optimizer.zero_grad()
    e = layer(embed(series))
    loss = F.cross_entropy(head(attention(e, e, e)[0].mean(1)), y_all)
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
""",
    "frozen transformer": HEAD
    + """
layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
head = nn.Linear(8, 3)
optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
series = torch.randn(40, 5, 8)
for step in range(5):
    optimizer.zero_grad()
    features = layer(series)
    loss = F.cross_entropy(head(features.mean(1)), y_all)
    loss.backward()
    optimizer.step()
    record += [features.clone(), loss.detach().clone()]
""",
    "accumulation": HEAD
    + f"""
model = nn.Sequential({MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    for part in range(3):
        loss = F.cross_entropy(model(x_all[part::3]), y_all[part::3]) / 3
        loss.backward()
        record.append(loss.detach().clone())
    optimizer.step()
    optimizer.zero_grad(set_to_none=step % 2 == 0)
""",
    "gan": HEAD
    + """
make = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6))
judge = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8, 1))
for_judge = torch.optim.SGD(judge.parameters(), lr=0.05)
for_make = torch.optim.Adam(make.parameters(), lr=0.01)
ones, zeros = torch.ones(40, 1), torch.zeros(40, 1)
for step in range(5):
    fake = make(torch.randn(40, 2))
    for_judge.zero_grad()
    d = F.binary_cross_entropy_with_logits(judge(x_all), ones) + F.binary_cross_entropy_with_logits(judge(fake.detach()), zeros)
    d.backward()
    for_judge.step()
    for_make.zero_grad()
    g = F.binary_cross_entropy_with_logits(judge(fake), ones)
    g.backward()
    for_make.step()
    record += [d.detach().clone(), g.detach().clone()]
""",
    "by hand with grad": HEAD
    + """
w1 = (torch.randn(6, 16) * 0.3).requires_grad_()
w2 = (torch.randn(16, 3) * 0.3).requires_grad_()
for step in range(6):
    loss = F.cross_entropy(torch.tanh(x_all @ w1) @ w2, y_all)
    g1, g2 = torch.autograd.grad(loss, (w1, w2))
    with torch.no_grad():
        w1 -= 0.5 * g1
        w2 -= 0.5 * g2
    record += [loss.detach().clone(), g1.norm(), g2.norm()]
""",
    "by hand with backward": HEAD
    + """
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
for step in range(6):
    model.zero_grad()
    loss = F.cross_entropy(model(x_all), y_all)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(p.grad, alpha=-0.5)
    record.append(loss.detach().clone())
""",
    "gradient penalty": HEAD
    + """
judge = nn.Sequential(nn.Linear(6, 16), nn.Softplus(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(judge.parameters(), lr=0.05)
for step in range(5):
    x = x_all.clone().requires_grad_()
    out = judge(x)
    g = torch.autograd.grad(out, x, torch.ones_like(out), True, True)[0]
    loss = out.mean() + ((g.norm(dim=1) - 1) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    record += [loss.detach().clone(), g.detach().clone()]
""",
    "second order": HEAD
    + """
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
import warnings
warnings.simplefilter("ignore")
for step in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all), y_all)
    loss.backward(create_graph=True)
    extra = sum((p.grad ** 2).sum() for p in model.parameters())
    grads = torch.autograd.grad(extra, list(model.parameters()))
    with torch.no_grad():
        for p, g in zip(model.parameters(), grads):
            p.grad = p.grad.detach() + 0.1 * g
    optimizer.step()
    record += [loss.detach().clone(), extra.detach().clone()]
""",
    "checkpointing": HEAD
    + """
from torch.utils.checkpoint import checkpoint
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.block = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.other = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 3)
        self.runs = 0
    def again(self, x):
        self.runs += 1
        return self.block(x)
    def forward(self, x):
        x = self.first(x)
        x = checkpoint(self.again, x, use_reentrant=False)
        x = checkpoint(self.other, x, use_reentrant=True)
        return self.head(x)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP
    + "record.append(model.runs)\n",
    "checkpointing, the plain kind": HEAD
    + """
from torch.utils.checkpoint import checkpoint
block = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
first, head = nn.Linear(6, 16), nn.Linear(16, 3)
optimizer = torch.optim.SGD([*first.parameters(), *block.parameters(), *head.parameters()], lr=0.1)
def model(x):
    return head(checkpoint(block, first(x), use_reentrant=False))
"""
    + LOOP
    + "record.append(block)\n",
}
