"""Scripts that hold on to the autograd graph: hooks, kept gradients, custom functions, transforms."""

from __future__ import annotations

from tests.depth.watch.training.parts import HEAD, LOOP, MLP

SCRIPTS: dict[str, str] = {
    "hooks": HEAD
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
    "retained gradient": HEAD
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
    "hook on a node": HEAD
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
    "global backward hook": HEAD
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
    + LOOP
    + "handle.remove()\nrecord.append(calls[0])\n",
    "saved tensor hooks": HEAD
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
    "custom function": HEAD
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
    + LOOP
    + "record.append(calls)\n",
    "functional call": HEAD
    + f"""
from torch.func import functional_call, grad, vmap
model = nn.Sequential({MLP})
params = {{k: p.detach().clone().requires_grad_() for k, p in model.named_parameters()}}
optimizer = torch.optim.SGD(params.values(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(functional_call(model, params, (x_all,)), y_all)
    loss.backward()
    optimizer.step()
    record.append(loss.detach().clone())
""",
    "func transforms": HEAD
    + f"""
from torch.func import functional_call, grad, vmap, jacrev
model = nn.Sequential({MLP})
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
    "per-sample gradients in a loop": HEAD
    + f"""
from torch.func import functional_call, grad, vmap
model = nn.Sequential({MLP})
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
}
