"""What moves weights within an optimizer's step beside its rule: told with its share, its parameters, its line, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradientflow.depth.watch.foreign import _scaled
from gradientflow.records import Foreign, GroupStep
from tests.depth.causes.by_hand import flips
from tests.depth.watch.steps import Bench, batch, line_of, net, script, seen, transits

Change = Callable[[Tensor, Tensor], object]  # of (a parameter, the same ahead of the step)


def last(change: Change, name: str = "SGD", count: int = 3) -> GroupStep:
    """The last of some steps of an optimizer with a hook that changes every parameter behind the step."""
    model, (x, y) = net(), batch()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.05)
    bench = Bench(optimizer, lambda: ((model(x) - y) ** 2).mean())
    ahead: dict[Tensor, Tensor] = {}

    def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
        with torch.no_grad():
            for p in model.parameters():
                change(p, ahead[p])

    optimizer.register_step_post_hook(hook)
    for _ in range(count):
        ahead.update({p: p.detach().clone() for p in model.parameters()})
        (found,) = bench.step()
    return found


def foreign(change: Change, name: str = "SGD") -> Foreign:
    found = last(change, name).foreign
    assert found is not None
    return found


def only_rows(change: Change) -> Change:
    return lambda p, ahead: change(p, ahead) if p.dim() > 1 else None


CONSTRAINTS: dict[str, tuple[str, Change]] = {
    "clamp": ("clamped", lambda p, _: p.clamp_(-0.1, 0.1)),
    "not negative": ("clamped", lambda p, _: p.clamp_(min=0.02)),
    "mask": ("zeroed", lambda p, _: p[:2].zero_()),
    "frozen rows": ("kept", lambda p, ahead: p[:2].copy_(ahead[:2])),
    "unit rows": ("rescaled", only_rows(lambda p, _: p.div_(p.norm(dim=1, keepdim=True)))),
    "unit columns": ("rescaled", only_rows(lambda p, _: p.div_(p.norm(dim=0, keepdim=True)))),
    "largest norm": ("rescaled", only_rows(lambda p, _: p.mul_((0.3 / p.norm(dim=1, keepdim=True)).clamp(max=1)))),
    "on a sphere": ("rescaled", lambda p, ahead: p.mul_(ahead.norm() / p.norm())),
    "decay by hand": ("decayed", lambda p, _: p.mul_(1 - 1e-3)),
}
OTHERS: dict[str, Change] = {
    "halved": lambda p, _: p.mul_(0.5),
    "grown": lambda p, _: p.mul_(1.003),
    "noise": lambda p, _: p.add_(0.01 * torch.randn_like(p)),
    "shifted": lambda p, _: p.add_(1e-3),
    "turned around": lambda p, ahead: p.copy_(2 * ahead - p),
    "half of the way": lambda p, ahead: p.copy_((p + ahead) / 2),
    "all undone": lambda p, ahead: p.copy_(ahead),
    "rounded": lambda p, _: p.copy_((p * 50).round() / 50),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_constraint_is_told_as_one(name: str, optimizer: str) -> None:
    shape, change = CONSTRAINTS[name]
    assert foreign(change, optimizer).shape == shape


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_what_is_none_is_not(name: str, optimizer: str) -> None:
    found = foreign(OTHERS[name], optimizer)
    assert found.shape == "" and found.share > 0.01


def test_the_parameters_that_were_moved_are_named_most_moved_first() -> None:
    found = foreign(lambda p, _: p.add_(0.1 if p.shape == (3,) else 0.001) if p.dim() == 1 else None)
    assert found.params == [3, 1]


def test_a_decay_that_takes_a_tenth_is_none() -> None:
    assert foreign(lambda p, _: p.mul_(0.91)).shape == "decayed"
    assert foreign(lambda p, _: p.mul_(0.89)).shape == ""


def test_a_step_that_moves_what_has_a_rate_of_zero_is_seen() -> None:
    model, (x, y) = net(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.register_step_post_hook(lambda *_: [p.data.add_(0.1) for p in model.parameters()] and None)
    (found,) = Bench(optimizer, lambda: ((model(x) - y) ** 2).mean()).step()
    assert found.unexplained == pytest.approx(1.0, rel=1e-3) and found.foreign is not None


def wide(change: Callable[[Tensor], object], width: int = 20) -> str:
    """What is made of a change behind the step of a layer of `width`² weights."""
    torch.manual_seed(0)
    model, x = nn.Linear(width, width), torch.randn(16, width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
        with torch.no_grad():
            for p in model.parameters():
                change(p)

    optimizer.register_step_post_hook(hook)
    (found,) = Bench(optimizer, lambda: model(x).square().mean()).step()
    assert found.foreign is not None
    return found.foreign.shape


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_normal_noise_is_told_as_such(size: float) -> None:
    assert wide(lambda p: p.add_(size * torch.randn_like(p))) == "noised"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.add_(0.1 * (torch.rand_like(p) - 0.5)),  # another distribution
        lambda p: p.add_(0.1 * torch.randn_like(p) + 0.1),  # a mean
        lambda p: p.add_(0.1 * torch.randn_like(p) - p),  # drawn anew: what goes is the weights
        lambda p: p.mul_(1 + 0.1 * torch.randn_like(p)),  # more where they are large
        lambda p: p.add_(1e-4 * torch.randn_like(p) + 0.05 * p.grad) if p.grad is not None else None,  # a step back
        lambda p: p.add_(0.1 * torch.randn_like(p)) if p.dim() > 1 else p.add_(1.0),  # not in every parameter
    ],
)
def test_what_is_more_than_noise_is_not(change: Callable[[Tensor], object]) -> None:
    assert wide(change) == ""


def test_of_few_weights_it_is_not_known_how_they_are_distributed() -> None:
    flips(
        lambda width: wide(lambda p: p.add_(torch.randn_like(p)), int(width)) == "noised", 14, 15
    )  # 196 and 225 weights


# ── what is no foreign change ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "Adagrad"])
def test_a_gradient_that_is_clipped_within_the_step_explains_it(name: str) -> None:
    model, (x, y) = net(), batch()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.05)
    optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(model.parameters(), 1e-3) and None)
    bench = Bench(optimizer, lambda: ((model(x) - y) ** 2).mean())
    for _ in range(3):
        (found,) = bench.step()
        assert found.unexplained is not None and found.unexplained < 1e-9 and found.foreign is None
    if name in ("SGD", "NAdam"):  # (whose steps show the gradient)
        assert {s.name: s.norm for s in found.stages}["between"] == pytest.approx(1e-3, rel=1e-3)


def test_a_schedule_that_a_hook_takes_on_explains_it() -> None:
    model, (x, y) = net(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.05))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    bench = Bench(optimizer, lambda: ((model(x) - y) ** 2).mean())
    for _ in range(3):
        (found,) = bench.step()
        assert found.unexplained is not None and found.unexplained < 1e-9


def test_two_parameters_in_one_memory_move_it_together() -> None:
    model, (x, _) = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)), batch()
    model[2].weight.data = model[0].weight.data
    bench = Bench(torch.optim.Adam(model.parameters(), lr=0.01), lambda: (model(x) ** 2).mean())
    for _ in range(3):
        (found,) = bench.step()
        assert found.unexplained is not None and found.unexplained < 1e-6


def test_memory_that_is_shared_with_other_processes_is_told_as_such() -> None:
    model, (x, y) = net().share_memory(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer.register_step_post_hook(lambda *_: [p.data.mul_(0.5) for p in model.parameters()] and None)
    (found,) = Bench(optimizer, lambda: ((model(x) - y) ** 2).mean()).step()
    assert found.foreign is not None and found.foreign.shape == "shared"


# ── its line ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HOOK = """
def hook(optimizer, args, kwargs):
    with torch.no_grad():
        for p in model.parameters():
            {}  # HERE

optimizer.register_step_post_hook(hook)
"""


@pytest.mark.parametrize(
    ("call", "name"),
    [("p.mul_(0.5)", "mul_"), ("p *= 0.5", "mul_"), ("p.data = p.data + 0.01", "data = …"), ("p[0] = 0.3", "__setitem__"),
     ("torch.add(p, 0.1, out=p)", "add"), ("torch._foreach_mul_([p], 0.5)", "_foreach_mul_"), ("nn.init.normal_(p)", "normal_")],
)  # fmt: skip
def test_the_line_is_found_at_the_next_step_that_is_looked_at(call: str, name: str, tmp_path: Path) -> None:
    text = script(start=HOOK.format(call))
    first, *rest = [t.groups[0].foreign for t in transits(seen(tmp_path, text))]
    assert first is not None and first.file is None
    found = rest[0]
    assert found is not None
    assert (found.file, found.line, found.name) == (str(tmp_path / "script.py"), line_of(text, "# HERE"), name)


def test_a_step_of_another_making_is_found_too(tmp_path: Path) -> None:
    text = script(
        start="""
        plain = optimizer.step
        def step(closure=None):
            plain(closure)
        class Other(torch.optim.SGD):
            pass
        def stepped(optimizer, args, kwargs):
            nn.utils.vector_to_parameters(0.9 * nn.utils.parameters_to_vector(model.parameters()) + 0.1, model.parameters())  # HERE
        optimizer.register_step_post_hook(stepped)
        """
    )
    _, second, *_ = [t.groups[0].foreign for t in transits(seen(tmp_path, text))]
    assert second is not None
    assert (second.line, second.name) == (line_of(text, "# HERE"), "data = …")


def test_the_optimizers_own_calls_are_not_taken_for_it(tmp_path: Path) -> None:
    """Nothing is searched for where nothing was done; where it was, what the optimizer writes is no candidate."""
    for t in transits(seen(tmp_path, script())):
        assert t.groups[0].foreign is None


# ── how near is near ─────────────────────────────────────────────────────────────────────────────────────────────────

ROWS = torch.tensor([[0.3, 0.4, 0.0], [0.0, 0.6, 0.8], [0.2, 0.1, 0.2]], dtype=torch.float64)
AHEAD = torch.tensor([[1.0, 2.0, 0.5], [0.3, 0.2, 0.9], [2.0, 0.1, 0.1]], dtype=torch.float64)


def scaled(lengths: list[float]) -> Tensor:
    """The rows, made as long as this."""
    return ROWS / ROWS.norm(dim=1, keepdim=True) * torch.tensor(lengths, dtype=torch.float64)[:, None]


def test_norms_that_are_one() -> None:
    flips(
        lambda off: _scaled(scaled([2.0, 2.0 * (1 + off), 2.0]), ROWS, AHEAD) == "rescaled", 1.6e-3, 1.4e-3
    )  # (over their mean)


def test_a_norm_that_is_what_it_was() -> None:
    def held(off: float) -> str:
        after = ROWS * (AHEAD.norm() / ROWS.norm()) * (1 + off)
        return _scaled(after, ROWS, AHEAD)

    flips(lambda off: held(off) == "rescaled", 1.1e-5, 0.9e-5)


def test_a_row_that_was_left_alone() -> None:
    flips(lambda off: _scaled(scaled([2.0, 2.0, 0.3 * (1 + off)]), ROWS, AHEAD) == "rescaled", 1.2e-7, 0.8e-7)


def test_a_row_that_is_turned_is_not_scaled() -> None:
    def turned(off: float) -> str:
        after = scaled([2.0, 2.0, 0.3])
        after[2] += 0.3 * off * torch.tensor([-0.1, 0.2, 0.0], dtype=torch.float64) / 0.05**0.5
        return _scaled(after, ROWS, AHEAD)

    flips(lambda off: turned(off) == "rescaled", 1.1e-6, 0.9e-6)
