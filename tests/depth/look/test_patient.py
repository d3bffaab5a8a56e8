"""A look leaves the patient as it was, bit for bit: and the check that says so sees each thing that could differ."""

from __future__ import annotations

import collections
import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

import gradientflow as gf
from gradientflow.depth.look.patient import untouched
from tests.depth.look import nets

F = nn.functional
_GLOBAL_HOOKS = [
    modules._global_forward_hooks, modules._global_forward_pre_hooks, modules._global_backward_hooks,
    modules._global_parameter_registration_hooks, modules._global_module_registration_hooks,
    optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks,
]  # fmt: skip


class Restless(nn.Module):
    """Changes everything it can while it runs: averages, a counter, a hidden state, a buffer by another, its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32))
        self.norm = nn.BatchNorm1d(32)
        self.drop = nn.Dropout(0.4)
        self.out = nn.Linear(32, 5)
        self.register_buffer("average", torch.zeros(32))
        self.hidden = torch.zeros(32)
        self.calls = 0
        self.noise = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        h = self.drop(torch.relu(self.norm(self.first(x))))
        h = h + 0.01 * torch.randn(32, generator=self.noise) + 0.01 * random.random() * float(np.random.rand())
        self.average = 0.9 * self.average + 0.1 * h.detach().mean(0)
        self.hidden.add_(h.detach().mean(0))
        self.eval()
        return self.out(h)


def state(net: nn.Module, batch: Any) -> list[Any]:
    """Everything of a model that a look could change, as values that compare to the bit, and as identities."""
    found: list[Any] = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]
    for name, t in [*net.named_parameters(), *net.named_buffers(), ("hidden", getattr(net, "hidden", None)),
                    ("x", batch[0]), ("y", batch[1])]:  # fmt: skip
        if t is not None:
            found.append((name, id(t), t.detach().numpy().tobytes(), t.requires_grad))
            found.append((name, id(t.grad), None if t.grad is None else t.grad.numpy().tobytes()))
            found.append((name, len(t._backward_hooks or {}), len(t._post_accumulate_grad_hooks or {})))
    for module in net.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        found.append((module.training, [list(h) for h in hooks], list(module.__dict__)))
    found.append(
        (
            getattr(net, "calls", None),
            [g.get_state().tolist() for g in vars(net).values() if isinstance(g, torch.Generator)],
        )
    )
    found.append((list(map(len, _GLOBAL_HOOKS)), torch._C._len_torch_function_stack(), torch.is_grad_enabled()))
    return found


def made(kind: str) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    net: nn.Module = Restless() if kind == "restless" else nets.Stack(kind)
    x, y = nets.batch()
    x.requires_grad_()
    if kind != "relu":  # with gradients left over from before
        F.cross_entropy(net(x), y).backward()
    net.train()
    return net, (x, y)


LOOKS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "one look": lambda net, batch: gf.diagnose(net, F.cross_entropy, batch),
    "a copy": lambda net, batch: gf.diagnose(net, F.cross_entropy, batch, optimizer=torch.optim.Adam, steps=4),
    "by assertion": lambda net, batch: gf.assert_flows(net, F.cross_entropy, batch, allow={"vanishing"}),
    "through the model": lambda net, batch: gf.diagnose(
        net, lambda model, b: F.cross_entropy(model(b[0]), b[1]), batch
    ),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["restless", "sigmoid", "relu"])
def test_the_patient_is_as_it_was(kind: str, look: str) -> None:
    net, batch = made(kind)
    before = state(net, batch)
    LOOKS[look](net, batch)
    assert state(net, batch) == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda net, batch: net(batch[0]),
        lambda net, batch: F.cross_entropy(net(batch[0]), batch[1]).backward(),
        lambda net, batch: net.norm(torch.ones(4, 32)),
        lambda net, batch: net.out.register_forward_hook(lambda *a: None),
        lambda net, batch: net.out.weight.register_hook(lambda g: None),
        lambda net, batch: net.out.weight.data.mul_(1 + 1e-7),
        lambda net, batch: net.drop.eval(),
        lambda net, batch: torch.rand(1),
        lambda net, batch: random.random(),
        lambda net, batch: batch[0].data.neg_(),
    ],
)
def test_the_check_sees_every_harm(harm: Callable[[Any, Any], Any]) -> None:
    net, batch = made("restless")
    before = state(net, batch)
    harm(net, batch)
    assert state(net, batch) != before
    net, batch = made("restless")
    before = state(net, batch)
    if "register" not in "".join(map(str, harm.__code__.co_names)):
        with untouched(net, batch):
            harm(net, batch)
        assert state(net, batch) == before


def test_an_optimizer_that_steps_inside_the_backward_pass_does_not_step() -> None:
    net = nets.Stack("relu", 2)
    stepped = []

    def step(p: Tensor) -> None:
        stepped.append(p)
        p.data.sub_(0.1 * p.grad)

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(step)
    before = copy.deepcopy(net.state_dict())
    assert gf.diagnose(net, F.cross_entropy, nets.batch()).healthy
    assert not stepped and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    F.cross_entropy(net(nets.batch()[0]), nets.batch()[1]).backward()
    assert stepped  # and does again afterwards


def test_it_is_as_it_was_after_a_failure_of_its_own() -> None:
    class Failing(Restless):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise KeyError("of the model's own")

    torch.manual_seed(1)
    net, batch = Failing(), nets.batch()
    before = state(net, batch)
    with pytest.raises(KeyError, match="of the model's own"):
        gf.diagnose(net, F.cross_entropy, batch)
    assert state(net, batch) == before


@dataclasses.dataclass
class Pair:
    x: Tensor
    y: Tensor


class Hoarder(nn.Module):
    """Keeps what it sees in lists, dicts and sets, hooks its own weights, and writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nets.Stack("sigmoid", 2)
        self.history: list[float] = [0.0]
        self.seen: dict[str, int] = {"calls": 0}
        self.kinds: set[str] = {"float32"}
        self.recent = collections.deque([torch.zeros(2)], maxlen=3)
        self.states = {"h": torch.zeros(3)}

    def forward(self, x: Tensor) -> Tensor:
        self.history.append(float(x.detach().mean()))
        self.seen["calls"] += 1
        self.kinds.add(str(x.shape))
        self.recent.append(torch.ones(2))
        self.recent[0].add_(1)
        self.states["h"].add_(1)
        for p in self.parameters():
            p.register_hook(lambda g: g * 2)
            p.register_post_accumulate_grad_hook(lambda p: None)
        return self.inner(x)


def hoard(net: Hoarder, batch: Pair) -> list[Any]:
    hooks = [(len(p._backward_hooks or {}), len(p._post_accumulate_grad_hooks or {})) for p in net.parameters()]
    values = [t.tolist() for t in (*net.recent, net.states["h"], batch.x)]
    return [list(net.history), dict(net.seen), set(net.kinds), len(net.recent), values, hooks]


@pytest.mark.parametrize("mapping", [False, True])
def test_what_a_model_hoards_and_hooks_is_as_it_was(mapping: bool) -> None:
    torch.manual_seed(0)
    net, (x, y) = Hoarder(), nets.batch()
    batch: Any = Pair(x, y)
    told: Any = collections.UserDict(x=x, y=y) if mapping else batch

    def loss(model: nn.Module, given: Any) -> Tensor:
        x, y = (given["x"], given["y"]) if mapping else (given.x, given.y)
        x.neg_()
        return F.cross_entropy(model(x), y)

    before = hoard(net, batch)
    gf.diagnose(net, loss, told)
    assert hoard(net, batch) == before
    loss(net, told).backward()
    assert all(one != other for one, other in zip(hoard(net, batch), before, strict=True))  # each part was at stake
    kept = hoard(net, batch)
    gf.diagnose(net, loss, told)  # with hooks of before
    assert hoard(net, batch) == kept


def test_a_run_of_training_is_the_same_with_looks_between_its_steps() -> None:
    def train(look: bool) -> list[float]:
        torch.manual_seed(2)
        net = Restless()
        tool = torch.optim.Adam(net.parameters(), lr=0.01)
        losses = []
        for _ in range(4):
            net.train()
            tool.zero_grad()
            loss = F.cross_entropy(net(nets.batch()[0]), nets.batch()[1])
            if look:
                gf.diagnose(net, F.cross_entropy, nets.batch())
            loss.backward()
            tool.step()
            losses.append(loss.item())
        return losses

    random.seed(0)
    np.random.seed(0)
    plain = train(False)
    random.seed(0)
    np.random.seed(0)
    assert train(True) == plain
