"""Scripts that have PyTorch trace, export, transform or fake their model in the middle of training."""

from __future__ import annotations

_HEAD = """
import torch, warnings
from torch import nn
warnings.simplefilter("ignore")
torch.manual_seed(3)
record = []
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(12, 6)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
def keep(graph):
    record.append([n.op + " " + n.name + " " + str(n.target) for n in graph.nodes])
"""

_MIDDLES: dict[str, str] = {
    "export": "keep(torch.export.export(model, (x,)).graph)",
    "export of any batch": """
batch = torch.export.Dim("batch")
ep = torch.export.export(model, (x,), dynamic_shapes={"input": {0: batch}})
keep(ep.graph)
record.append(ep.module()(x[:5]).detach())
record.append([str(r) for r in ep.range_constraints.values()])
""",
    "strict export": "keep(torch.export.export(model, (x,), strict=True).graph)",
    "strict export of any batch": """
batch = torch.export.Dim("batch")
ep = torch.export.export(model, (x,), dynamic_shapes={"input": {0: batch}}, strict=True)
keep(ep.graph)
record.append(ep.module()(x[:5]).detach())
""",
    "export of a training step": """
class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, x):
        return self.model(x).pow(2).mean()
keep(torch.export.export(Loss(), (x,)).run_decompositions().graph)
""",
    "make_fx real": """
from torch.fx.experimental.proxy_tensor import make_fx
keep(make_fx(lambda x: model(x).tanh())(x).graph)
""",
    "make_fx fake": """
from torch.fx.experimental.proxy_tensor import make_fx
keep(make_fx(lambda x: model(x).tanh(), tracing_mode="fake", _allow_non_fake_inputs=True)(x).graph)
""",
    "make_fx symbolic": """
from torch.fx.experimental.proxy_tensor import make_fx
from torch.func import functional_call
params = dict(model.named_parameters())
made = make_fx(lambda p, x: functional_call(model, p, (x,)).tanh(), tracing_mode="symbolic")(params, x)
keep(made.graph)
record.append(sorted(map(str, made.shape_env.guards)))
record.append(made(params, x[:3]).detach())
""",
    "make_fx of backward": """
from torch.fx.experimental.proxy_tensor import make_fx
from torch.func import functional_call
params = dict(model.named_parameters())
def step(p, x):
    loss = functional_call(model, p, (x,)).pow(2).mean()
    return torch.autograd.grad(loss, list(p.values()))
for mode in ("real", "symbolic"):
    keep(make_fx(step, tracing_mode=mode)(params, x).graph)
""",
    "symbolic_trace": """
traced = torch.fx.symbolic_trace(model)
keep(traced.graph)
record.append(traced(x).detach())
""",
    "functionalize": """
from torch.fx.experimental.proxy_tensor import make_fx
from torch.func import functionalize
def f(x):
    y = x.clone()
    y.add_(1).mul_(2)
    return model(y)
record.append(functionalize(f)(x).detach())
keep(make_fx(functionalize(f))(x).graph)
""",
    "torch.func": """
from torch.func import functional_call, grad, hessian, jacfwd, jvp, vjp, vmap
params = {k: p.detach() for k, p in model.named_parameters()}
f = lambda p, x: functional_call(model, p, (x,)).pow(2).mean()
record.append(vmap(grad(f), in_dims=(None, 0))(params, x)["0.weight"])
record.append(hessian(lambda x: f(params, x))(x[0]))
record.append(jvp(lambda x: f(params, x), (x,), (x,)))
record.append(vjp(lambda x: f(params, x), x)[1](torch.ones(()))[0])
""",
    "batched gradients": """
y = model(x)
record.append(torch.autograd.grad(y, list(model.parameters()), torch.eye(12)[:, :, None].expand(12, 12, 2), is_grads_batched=True))
record.append(torch.autograd.functional.jacobian(model, x[:1], vectorize=True))
""",
    "fake tensors by hand": """
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode() as mode:
    other = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    opt = torch.optim.Adam(other.parameters())
    for _ in range(3):
        opt.zero_grad()
        loss = other(torch.randn(12, 6)).pow(2).mean()
        loss.backward()
        opt.step()
    record.append([str(loss.shape), type(loss).__name__])
loss = other(mode.from_tensor(x)).pow(2).mean()
loss.backward()
opt.step()
del loss, other, opt, mode
""",
    "fake tensors with symbols": """
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
env = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
fake = mode.from_tensor(torch.randn(12, 6))
y = model(fake).pow(2).mean()
y.backward()
optimizer.step()
optimizer.zero_grad()
record.append([str(g) for g in env.guards] + [str(len(env.pending_fresh_unbacked_symbols))])
del fake, y, mode, env
""",
    "functional tensors": """
t = torch._to_functional_tensor(x.clone())
torch._enable_functionalization(reapply_views=True)
try:
    y = t.add(1).mul_(2).sigmoid()
finally:
    torch._disable_functionalization()
torch._sync(y)
record.append(torch._from_functional_tensor(y))
""",
    "meta tensors": """
with torch.device("meta"):
    other = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
opt = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
for _ in range(3):
    opt.zero_grad()
    other(x.to("meta")).pow(2).mean().backward()
    opt.step()
other.to_empty(device="cpu")
for layer in other:
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
record.append(other(x).detach())
del opt, other, layer
""",
    "jit.trace": """
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    traced = torch.jit.trace(model, x)
record.append([n.kind() for n in traced.inlined_graph.nodes()])
record.append(traced(x).detach())
""",
    "jit.script": """
scripted = torch.jit.script(model)
record.append([n.kind() for n in scripted.inlined_graph.nodes()])
for _ in range(3):
    optimizer.zero_grad()
    scripted(x).pow(2).mean().backward()
    optimizer.step()
""",
    "compile eager": "record.append(torch.compile(model, backend='eager')(x).detach())\ntorch._dynamo.reset()\n",
    "compile aot_eager": """
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
for n in (12, 5):
    optimizer.zero_grad()
    compiled(x[:n]).pow(2).mean().backward()
    optimizer.step()
torch._dynamo.reset()
""",
    "a step inside make_fx": """
from torch.fx.experimental.proxy_tensor import make_fx
def step(x):
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()
    return loss
keep(make_fx(step)(x).graph)
""",
    "flop counter": """
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    train(2)
record.append(counter.get_total_flops())
""",
}

TRACING: dict[str, str] = {name: f"{_HEAD}\ntrain(AHEAD)\n{middle}\ntrain(3)\n" for name, middle in _MIDDLES.items()}
