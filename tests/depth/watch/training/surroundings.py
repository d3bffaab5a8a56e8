"""Scripts that change what is around their calls: precision, devices, modes, subclasses, threads, what lives and dies."""

from __future__ import annotations

from tests.depth.watch.training.parts import HEAD, LOOP, MLP, SOME

SCRIPTS: dict[str, str] = {
    "autocast": HEAD
    + f"""
model = nn.Sequential({MLP})
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
    "sparse embedding": HEAD
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
    "shared parameter": HEAD
    + """
a, b = nn.Linear(6, 6), nn.Linear(6, 6)
b.weight = a.weight
head = nn.Linear(6, 3)
head.weight.data = a.weight.data[:3]
model = nn.Sequential(a, nn.Tanh(), b, nn.Tanh(), a, head)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP,
    "scheduler and scaler": HEAD
    + f"""
model = nn.Sequential({MLP})
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
    "device context": HEAD
    + f"""
for turn in range(2):
    with torch.device("cpu"):
        model = nn.Sequential({MLP})
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
    "default device": HEAD
    + f"""
model = nn.Sequential({MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
{SOME}torch.set_default_device("cpu")
some(3)
torch.set_default_device(None)
some(4)
torch.set_default_device("cpu")
some(2)
with torch.device("cpu"):
    some(3)
torch.set_default_device(None)
""",
    "user's own function mode": HEAD
    + f"""
from torch.overrides import TorchFunctionMode
class Doubling(TorchFunctionMode):
    calls = 0
    def __torch_function__(self, func, types, args=(), kwargs=None):
        Doubling.calls += 1
        out = func(*args, **(kwargs or {{}}))
        return out * 2 if func is F.relu else out
model = nn.Sequential({MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
{SOME}for n in (1, 2, 3, 4, 5):  # ends inside windows that are probed, and inside others
    with Doubling():
        some(n)
    record.append(Doubling.calls)
    record.append(F.relu(torch.ones(1)))  # the mode must be gone here
    some(n)
    record.append(Doubling.calls)
""",
    "modes within modes": HEAD
    + f"""
from torch.overrides import TorchFunctionMode
class Plus(TorchFunctionMode):
    def __init__(self, n):
        super().__init__()
        self.n = n
    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {{}}))
        return out * self.n + 1 if func is F.relu else out
model = nn.Sequential({MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
{SOME}with torch.device("cpu"), Plus(2):
    some(2)
    with Plus(3):
        some(2)
    record.append(F.relu(torch.ones(1)))
    some(2)
record.append(F.relu(torch.ones(1)))
some(3)
""",
    "dispatch mode": HEAD
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
model = nn.Sequential({MLP})
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
{SOME}for n in (1, 2, 3):
    with Counting() as counting:
        some(n)
    record.append(sorted(counting.calls.items()))
""",
    "tensor subclass": HEAD
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
    "parameter subclass": HEAD
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
    + LOOP
    + "record.append(Weight.calls)\n",
    "copies of the model": HEAD
    + f"""
import copy, io, pickle
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential({MLP})
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
    "lazy layers": HEAD
    + """
model = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3))
model(x_all[:1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP,
    "parametrized layers": HEAD
    + """
from torch.nn.utils.parametrizations import spectral_norm, weight_norm, orthogonal
model = nn.Sequential(spectral_norm(nn.Linear(6, 16)), nn.Tanh(), weight_norm(nn.Linear(16, 16)), orthogonal(nn.Linear(16, 3)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP,
    "scripted": HEAD
    + f"""
import warnings
warnings.simplefilter("ignore")
model = torch.jit.script(nn.Sequential({MLP}))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP
    + f"""
model = torch.jit.trace(nn.Sequential({MLP}), x_all[:2])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + LOOP,
    "training in a thread": HEAD
    + f"""
import threading
model = nn.Sequential({MLP})
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
    "backward on a generator": HEAD
    + f"""
model = nn.Sequential({MLP})
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
    "things die when they should": HEAD
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
    model = nn.Sequential({MLP})
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
    model = nn.Sequential({MLP})
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
    "swapped parameters": HEAD
    + f"""
torch.__future__.set_swap_module_params_on_conversion(True)
try:
    model = nn.Sequential({MLP})
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
    "many warnings": HEAD
    + f"""
import warnings
model = nn.Sequential({MLP})
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
