"""The checks on a probed step: what they see from both sides of each limit, and that the script does not notice them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradientflow.depth.probe import functions
from gradientflow.depth.watch import checking
from gradientflow.limits import APART
from gradientflow.records import Isolation, Run
from tests.depth.scripts import differences, plain, sandbox, watched, write
from tests.truth.watching import watched as watching

X, Y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


class Leaky(nn.Module):
    """Lets a little of the other end of the batch in."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.leak = nn.Linear(4, 8), nn.Linear(8, 3), leak

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        return self.two(h + self.leak * h.cumsum(0) if self.leak else h)


def seen(net: nn.Module, steps: int = 2, loss: Callable[[Tensor], Tensor] = lambda p: F.cross_entropy(p, Y)) -> Run:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watching(1) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(net(X)).backward()
            optimizer.step()
    return run


def looked(net: nn.Module) -> Isolation:
    found = seen(net).probes[0].isolation
    assert isinstance(found, Isolation), found
    return found


def test_what_is_apart() -> None:
    shares = [looked(Leaky(leak)) for leak in (0.0, 1e-6, 1e-3)]
    assert shares[0].outside == 0.0
    assert 0.0 < shares[1].outside < APART and shares[1].mixers == []
    assert shares[2].outside > APART and shares[2].mixers != []


def test_probes_with_a_check() -> None:
    each = [p.isolation is not None for p in seen(Leaky(0.0), 6).probes]
    assert each == [k < checking.LOOKS for k in range(6)]


def test_the_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECKS", -1.0)
    monkeypatch.setattr(checking, "SHARE_OF_EXTRAS", -1.0)
    assert [p.isolation for p in seen(Leaky(0.0)).probes] == [None, None]


def test_passes_to_find_the_mixer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PASSES", 1)
    found = looked(Leaky(0.5))
    assert found.outside > APART and found.mixers == []


def test_why_nothing_was_seen_is_told() -> None:
    assert seen(Leaky(0.0), loss=lambda p: p.square().mean()).probes[0].isolation == (
        "no loss compares an answer with targets of as many rows"
    )


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return x * 2

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return 2 * g


def asked() -> bool:
    run = seen(Leaky(0.0), loss=lambda p: F.cross_entropy(Own.apply(p), Y))
    (custom,) = [op.custom for op in run.probes[0].ops if op.custom is not None]
    return custom.error is not None


def test_entries_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "LARGEST", 48)  # 16 × 3
    assert asked()
    monkeypatch.setattr(functions, "LARGEST", 47)
    assert not asked()


@pytest.mark.parametrize(
    ("body", "calm"),
    [
        ("return g * ctx.saved_tensors[0]", True),
        (
            "(x,) = ctx.saved_tensors\n        out = torch.where(x > 0, g, 0.1 * g)\n        return out.reshape(x.shape), None",
            True,
        ),
        ("if ctx.needs_input_grad[0]:\n            return g.clone()\n        return None", True),
        ("g.mul_(2)\n        return g", False),
        ("g *= 2\n        return g", False),
        ("print(g)\n        return g", False),
        ("return g * torch.rand_like(g)", False),
        ("ctx.count = 1\n        return g", False),
        ("ctx.seen.append(1)\n        return g", False),
        ("LOG[0] = 1\n        return g", False),
        ("return helper(g)", False),
        ("return ctx.module.forward(g)", False),
        ("return torch.mul(g, 2, out=g)", False),
        ("torch.distributed.all_reduce(g)\n        return g", False),
        ("return torch.ops.own.slope(g)", False),
        ("global N\n        return g", False),
    ],
)
def test_a_backward_is_called_again_only_where_its_source_shows_that_it_only_computes(
    tmp_path: Path, body: str, calm: bool
) -> None:
    file = tmp_path / "own.py"
    head = "import torch\nclass F(torch.autograd.Function):\n    @staticmethod\n    def backward(ctx, g):\n        "
    file.write_text(head + body + "\n", encoding="utf-8")
    scope: dict[str, type] = {}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), scope)
    assert functions._harmless(scope["F"]) is calm


def test_a_source_that_was_edited_since_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    text = "import torch\nclass F(torch.autograd.Function):\n    @staticmethod\n    def backward(ctx, g):\n        print(g)\n        return g\n"
    file.write_text(text, encoding="utf-8")
    scope: dict[str, type] = {}
    exec(compile(text, str(file), "exec"), scope)
    file.write_text(text.replace("print(g)", "h = 2 * g"), encoding="utf-8")
    assert not functions._harmless(scope["F"])


SCRIPT = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(1)
count = {"forward": 0, "backward": 0, "pure": 0, "hook": 0}
record = []
class Counting(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        count["forward"] += 1
        return x * 1.5
    @staticmethod
    def backward(ctx, g):
        count["backward"] += 1
        return g * 1.5
class Pure(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        count["pure"] += 1
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= 1)
class Net(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.one, self.norm, self.drop, self.rnn, self.two = (
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.LSTM(8, 8), nn.Linear(8, 3))
        self.way = way
    def forward(self, x):
        h = self.drop(self.norm(self.one(x)))
        if self.way == "mixed":
            return F.softmax(self.two(self.rnn(h[:, None].expand(-1, 4, -1))[0][:, -1]), dim=0)
        if self.way == "counting":
            h = Counting.apply(h)
        if self.way == "pure":
            h = Pure.apply(h)
        if self.way == "hooked":
            h.register_hook(lambda g: count.__setitem__("hook", count["hook"] + 1))
        return self.two(h)
for way in ("plain", "mixed", "counting", "pure", "hooked"):
    net = Net(way)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(6):
        x, y = torch.randn(12, 6), torch.randint(0, 3, (12,))
        optimizer.zero_grad()
        p = net(x)
        loss = F.cross_entropy(p, y) + 0.1 * p.detach().square().mean().item()
        loss.backward()
        optimizer.step()
        record.append(loss.detach().clone())
told = torch.tensor([count[k] for k in sorted(count)])
"""


def test_the_script_does_not_notice(tmp_path: Path) -> None:
    with sandbox():
        torch.set_num_threads(1)
        file = write(tmp_path, SCRIPT)
        alone, left = plain(file), watched(file, probe_every=1)
        assert differences(alone, left) == []
        assert left.outcome is not None and left.outcome.verdict.watch.errors == []
        assert left.scope["told"].tolist() == [6, 6, 6, 6]  # backward, forward, hook, pure
        looks = [p.isolation for p in left.outcome.run.probes]
        assert any(isinstance(i, Isolation) for i in looks)
