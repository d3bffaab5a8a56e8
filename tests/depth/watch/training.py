"""Small training scripts, one for each thing that a watcher could disturb. Each keeps what it computed in `record`."""

from __future__ import annotations

_HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(7)
record = []
x_all, y_all = torch.randn(40, 6), torch.randint(3, (40,))
"""

_LOOP = """
for step in range(6):
    batch = torch.randperm(40)[:16]
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all[batch]), y_all[batch])
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
"""


def _net(layers: str, optimizer: str) -> str:
    return f"{_HEAD}\nmodel = nn.Sequential({layers})\noptimizer = torch.optim.{optimizer}\n{_LOOP}"


_MLP = "nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)"

SCRIPTS: dict[str, str] = {
    "dropout": _net(
        "nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3)", "SGD(model.parameters(), lr=0.1)"
    ),
    "batchnorm": _net(
        "nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)", "SGD(model.parameters(), lr=0.1)"
    ),
    "inplace relu": _net(
        "nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Linear(16, 3)", "SGD(model.parameters(), lr=0.1)"
    ),
    "momentum": _net(_MLP, "SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)"),
    "adam": _net(_MLP, "Adam(model.parameters(), lr=0.01)"),
    "adamw fused": _net(_MLP, "AdamW(model.parameters(), lr=0.01, fused=True)"),
    "rmsprop": _net(_MLP, "RMSprop(model.parameters(), lr=0.01)"),
    "no seed": _net(_MLP, "SGD(model.parameters(), lr=0.1)").replace("torch.manual_seed(7)", ""),
    "lbfgs": _HEAD
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
    "sgd closure": _HEAD
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
    "lstm": _HEAD
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
    "transformer": _HEAD
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
    "transformer evaluated first": _HEAD
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
    "frozen transformer": _HEAD
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
    "accumulation": _HEAD
    + f"""
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    for part in range(3):
        loss = F.cross_entropy(model(x_all[part::3]), y_all[part::3]) / 3
        loss.backward()
        record.append(loss.detach().clone())
    optimizer.step()
    optimizer.zero_grad(set_to_none=step % 2 == 0)
""",
    "gan": _HEAD
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
    "by hand with grad": _HEAD
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
    "by hand with backward": _HEAD
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
    "gradient penalty": _HEAD
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
    "second order": _HEAD
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
    "checkpointing": _HEAD
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
    + _LOOP
    + "record.append(model.runs)\n",
    "checkpointing, the plain kind": _HEAD
    + """
from torch.utils.checkpoint import checkpoint
block = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
first, head = nn.Linear(6, 16), nn.Linear(16, 3)
optimizer = torch.optim.SGD([*first.parameters(), *block.parameters(), *head.parameters()], lr=0.1)
def model(x):
    return head(checkpoint(block, first(x), use_reentrant=False))
"""
    + _LOOP
    + "record.append(block)\n",
    "hooks": _HEAD
    + """
from collections import Counter
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
calls = Counter()
def count(name):
    def hook(*args):
        calls[name] += 1
    return hook
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model[2].weight.register_hook(count("parameter"))
model[0].bias.register_post_accumulate_grad_hook(count("accumulated"))
model[2].register_full_backward_hook(count("module backward"))
model[2].register_full_backward_pre_hook(count("module backward pre"))
model[4].register_forward_hook(count("module forward"))
optimizer.register_step_post_hook(count("optimizer"))
for step in range(6):
    optimizer.zero_grad()
    h = model[:2](x_all)
    h.register_hook(count("tensor"))
    loss = F.cross_entropy(model[2:](h), y_all)
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
record.append(dict(calls))
""",
    "retained gradient": _HEAD
    + """
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    h = model[:2](x_all)
    h.retain_grad()
    loss = F.cross_entropy(model[2:](h), y_all)
    loss.backward()
    optimizer.step()
    record += [loss.detach().clone(), h.grad.clone()]
""",
    "hook on a node": _HEAD
    + """
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
calls = [0, 0, 0]
def count(i):
    def hook(*args):
        calls[i] += 1
    return hook
for step in range(5):
    optimizer.zero_grad()
    h = model[:2](x_all)
    loss = F.cross_entropy(model[2:](h), y_all)
    h.grad_fn.register_hook(count(0))
    h.grad_fn.register_prehook(count(1))
    torch.autograd.graph.register_multi_grad_hook([h, model[0].weight], count(2))
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
record.append(calls)
""",
    "global backward hook": _HEAD
    + """
calls = [0]
def count(module, inputs, outputs):
    calls[0] += 1
import warnings
warnings.simplefilter("ignore")
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
handle = torch.nn.modules.module.register_module_full_backward_hook(count)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP
    + "handle.remove()\nrecord.append(calls[0])\n",
    "saved tensor hooks": _HEAD
    + """
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
calls = [0, 0]
def pack(t):
    calls[0] += 1
    return t
def unpack(t):
    calls[1] += 1
    return t
for step in range(5):
    optimizer.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = F.cross_entropy(model(x_all), y_all)
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
record.append(calls)
""",
    "custom function": _HEAD
    + """
calls = [0, 0]
class Noisy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        calls[0] += 1
        ctx.save_for_backward(x)
        return x.tanh()
    @staticmethod
    def backward(ctx, g):
        calls[1] += 1
        (x,) = ctx.saved_tensors
        return g * (1 - x.tanh() ** 2) + 1e-4 * torch.randn_like(g)
first, last = nn.Linear(6, 16), nn.Linear(16, 3)
model = lambda x: last(Noisy.apply(first(x)))
optimizer = torch.optim.SGD([*first.parameters(), *last.parameters()], lr=0.1)
"""
    + _LOOP
    + "record.append(calls)\n",
    "functional call": _HEAD
    + f"""
from torch.func import functional_call, grad, vmap
model = nn.Sequential({_MLP})
params = {{k: p.detach().clone().requires_grad_() for k, p in model.named_parameters()}}
optimizer = torch.optim.SGD(params.values(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(functional_call(model, params, (x_all,)), y_all)
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
""",
    "func transforms": _HEAD
    + f"""
from torch.func import functional_call, grad, vmap, jacrev
model = nn.Sequential({_MLP})
params = {{k: p.detach().clone() for k, p in model.named_parameters()}}
def one(params, x, y):
    return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])
each = vmap(grad(one), in_dims=(None, 0, 0))
for step in range(4):
    grads = each(params, x_all, y_all)
    params = {{k: p - 0.1 * grads[k].mean(0) for k, p in params.items()}}
    record.append(grads["0.weight"])
record.append(jacrev(one)(params, x_all[0], y_all[0])["2.bias"])
""",
    "per-sample gradients in a loop": _HEAD
    + f"""
from torch.func import functional_call, grad, vmap
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def one(params, x, y):
    return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])
for step in range(4):
    params = {{k: p.detach() for k, p in model.named_parameters()}}
    grads = vmap(grad(one), in_dims=(None, 0, 0))(params, x_all, y_all)
    for k, p in model.named_parameters():
        p.grad = grads[k].mean(0)
    optimizer.step()
    record.append(grads["0.weight"].norm())
""",
    "autocast": _HEAD
    + f"""
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(x_all), y_all)
        if step % 2:
            loss.backward()
    if not step % 2:
        loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
""",
    "sparse embedding": _HEAD
    + """
table, head = nn.Embedding(20, 6, sparse=True), nn.Linear(6, 3)
optimizer = torch.optim.SGD([*table.parameters(), *head.parameters()], lr=0.5)
words = torch.randint(20, (40, 4))
for step in range(5):
    optimizer.zero_grad()
    loss = F.cross_entropy(head(table(words).mean(1)), y_all)
    loss.backward()
    record += [loss.detach().clone(), table.weight.grad.clone()]
    optimizer.step()
""",
    "shared parameter": _HEAD
    + """
a, b = nn.Linear(6, 6), nn.Linear(6, 6)
b.weight = a.weight
head = nn.Linear(6, 3)
head.weight.data = a.weight.data[:3]
model = nn.Sequential(a, nn.Tanh(), b, nn.Tanh(), a, head)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP,
    "scheduler and scaler": _HEAD
    + f"""
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=20)
scaler = torch.amp.GradScaler("cpu")
average = torch.optim.swa_utils.AveragedModel(model)
for step in range(6):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all), y_all)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    schedule.step()
    average.update_parameters(model)
    record += [loss.detach().clone(), schedule.get_last_lr()[0]]
""",
    "device context": _HEAD
    + f"""
for turn in range(2):
    with torch.device("cpu"):
        model = nn.Sequential({_MLP})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4 + turn):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x_all), y_all)
            loss.backward()
            optimizer.step()
            record.append(loss.detach().clone())
    stack = torch.overrides._get_current_function_mode_stack()
    record.append([type(m).__name__ for m in stack if "gradientflow" not in type(m).__module__])
""",
    "default device": _HEAD
    + f"""
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def some(n):
    for step in range(n):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
torch.set_default_device("cpu")
some(3)
torch.set_default_device(None)
some(4)
torch.set_default_device("cpu")
some(2)
with torch.device("cpu"):
    some(3)
torch.set_default_device(None)
""",
    "user's own function mode": _HEAD
    + f"""
from torch.overrides import TorchFunctionMode
class Doubling(TorchFunctionMode):
    calls = 0
    def __torch_function__(self, func, types, args=(), kwargs=None):
        Doubling.calls += 1
        out = func(*args, **(kwargs or {{}}))
        return out * 2 if func is F.relu else out
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
def some(n):
    for step in range(n):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
for n in (1, 2, 3, 4, 5):  # ends inside windows that are probed, and inside others
    with Doubling():
        some(n)
    record.append(Doubling.calls)
    record.append(F.relu(torch.ones(1)))  # the mode must be gone here
    some(n)
    record.append(Doubling.calls)
""",
    "modes within modes": _HEAD
    + f"""
from torch.overrides import TorchFunctionMode
class Plus(TorchFunctionMode):
    def __init__(self, n):
        super().__init__()
        self.n = n
    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {{}}))
        return out * self.n + 1 if func is F.relu else out
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
def some(n):
    for step in range(n):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
with torch.device("cpu"), Plus(2):
    some(2)
    with Plus(3):
        some(2)
    record.append(F.relu(torch.ones(1)))
    some(2)
record.append(F.relu(torch.ones(1)))
some(3)
""",
    "dispatch mode": _HEAD
    + f"""
from torch.utils._python_dispatch import TorchDispatchMode
from collections import Counter
class Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = Counter()
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {{}}))
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
def some(n):
    for step in range(n):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
for n in (1, 2, 3):
    with Counting() as counting:
        some(n)
    record.append(sorted(counting.calls.items()))
""",
    "tensor subclass": _HEAD
    + """
class Tagged(torch.Tensor):
    calls = []
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Tagged.calls.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = x_all.as_subclass(Tagged)
for step in range(5):
    optimizer.zero_grad()
    out = model(x)
    loss = F.cross_entropy(out, y_all)
    record.append(type(loss).__name__)
    loss.backward()
    optimizer.step()
    record.append(loss.item())
record.append(Tagged.calls)
""",
    "parameter subclass": _HEAD
    + """
class Weight(nn.Parameter):
    calls = []
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Weight.calls.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = Weight(torch.randn(3, 6))
    def forward(self, x):
        return x @ self.weight.t()
model = Layer()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP
    + "record.append(Weight.calls)\n",
    "copies of the model": _HEAD
    + f"""
import copy, io, pickle
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential({_MLP})
    def forward(self, x):
        return self.body(x)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x_all), y_all)
    if step in (0, 3):
        twin = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model, file)
        saved = file.getvalue(), pickle.dumps(model), pickle.dumps(optimizer.state_dict())
        record.append([(len(b), b"gradientflow" in b) for b in saved])
        del saved  # (storages are named after their addresses)
        file.seek(0)
        record.append(torch.load(file, weights_only=False))
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        record.append(torch.load(file))
        ours = copy.deepcopy(optimizer)
        record.append(F.cross_entropy(twin(x_all), y_all).detach())
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
""",
    "lazy layers": _HEAD
    + """
model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3))
model(x_all[:1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP,
    "parametrized layers": _HEAD
    + """
from torch.nn.utils.parametrizations import spectral_norm, weight_norm, orthogonal
model = nn.Sequential(spectral_norm(nn.Linear(6, 16)), nn.Tanh(), weight_norm(nn.Linear(16, 16)), orthogonal(nn.Linear(16, 3)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP,
    "scripted": _HEAD
    + f"""
import warnings
warnings.simplefilter("ignore")
model = torch.jit.script(nn.Sequential({_MLP}))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP
    + f"""
model = torch.jit.trace(nn.Sequential({_MLP}), x_all[:2])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + _LOOP,
    "training in a thread": _HEAD
    + f"""
import threading
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train():
    for step in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
for turn in range(2):
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    train()
""",
    "backward on a generator": _HEAD
    + f"""
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    out = model(x_all)
    a, b = F.cross_entropy(out, y_all), out.pow(2).mean()
    torch.autograd.backward((t for t in (a, b)))
    optimizer.step()
    record += [a.detach().clone(), b.detach().clone()]
    a, b = (F.cross_entropy(model(x_all), y_all) for _ in range(2))
    torch.autograd.backward([a, b], inputs=list(model.parameters()))
    optimizer.step()
""",
    "things die when they should": _HEAD
    + f"""
import gc, weakref
class Big:
    pass
dead = []
def one(model, optimizer, n):
    big = Big()
    x = x_all[torch.randperm(40)[:16]].clone()
    refs = [weakref.ref(big), weakref.ref(x)]
    def forward():
        inner = Big()
        refs.append(weakref.ref(inner))
        return model(x)
    optimizer.zero_grad()
    loss = forward().pow(2).mean()
    refs.append(weakref.ref(loss))
    loss.backward()
    optimizer.step()
    return refs
def train(n):
    model = nn.Sequential({_MLP})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(n):
        dead.append([r() is None for r in one(model, optimizer, n)])
    ref = weakref.ref(model), weakref.ref(optimizer), weakref.ref(model[0].weight)
    return ref
for n in (1, 3, 4):
    refs = train(n)
    gc.collect()
    dead.append([r() is None for r in refs])
def inline():
    model = nn.Sequential({_MLP})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = None
    for step in range(4):
        x = x_all[torch.randperm(40)[:16]].clone()
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        first = first or (weakref.ref(x), weakref.ref(loss))
    dead.append([r() is None for r in first])
inline()
record.append(dead)
""",
    "swapped parameters": _HEAD
    + f"""
torch.__future__.set_swap_module_params_on_conversion(True)
try:
    model = nn.Sequential({_MLP})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_all.to(model[0].weight.dtype)), y_all)
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
        del loss
        optimizer.zero_grad()
        model.double()
finally:
    torch.__future__.set_swap_module_params_on_conversion(False)
""",
    "many warnings": _HEAD
    + f"""
import warnings
model = nn.Sequential({_MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.use_deterministic_algorithms(True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for step in range(4):
        optimizer.zero_grad()
        with torch.autograd.set_detect_anomaly(step == 1):
            loss = F.cross_entropy(model(x_all), y_all)
            loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
torch.use_deterministic_algorithms(False)
record.append(sorted(str(w.message) for w in caught))
""",
}
