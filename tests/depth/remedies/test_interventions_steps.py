"""Remedies around the step, in numbers: what the parameters get is what the remedy says."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from tests.depth.remedies.live import change, live, run_watched

ONE = """
w = nn.Parameter(torch.tensor([1.0, 2.0]))
optimizer = torch.optim.{0}
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
lrs, path, left = [], [], []
for step in range(4):
    optimizer.zero_grad()
    (3.0 * w[0] + 4.0 * w[1]).backward()
    before = w.detach().clone()
    optimizer.step()
    path.append(w.detach() - before)
    left.append(w.grad)
    scheduler.step()
    lrs.append(scheduler.get_last_lr()[0])
"""
SGD = ONE.format("SGD([w], lr=0.1)")


def test_the_step_is_scaled_and_the_scheduler_sees_its_own_numbers() -> None:
    scope, (lower,) = live(SGD, [change("lower-step", factor=0.25)])
    assert scope["path"][0].tolist() == pytest.approx([-0.1 * 0.25 * 3.0, -0.1 * 0.25 * 4.0])
    assert scope["path"][2].tolist() == pytest.approx([-0.025 * 0.25 * 3.0, -0.025 * 0.25 * 4.0])
    assert scope["lrs"] == [0.05, 0.025, 0.0125, 0.00625]
    assert lower.acted == 4
    usual, _ = live(SGD, [])
    assert usual["path"][0].tolist() == pytest.approx([-0.3, -0.4])  # (and not so without it)
    assert usual["lrs"] == scope["lrs"]


def test_only_the_optimizer_that_is_meant_is_slowed() -> None:
    text = """
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    one, two = torch.optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.1)
    for step in range(2):
        (a + b).sum().backward()
        two.step()
        one.step()
        one.zero_grad(), two.zero_grad()
    """
    scope, (lower,) = live(text, [change("lower-step", factor=0.1, optimizer=1)])  # `one` was the second to step
    assert (scope["a"].item(), scope["b"].item()) == pytest.approx((0.98, 0.8))
    assert lower.acted == 2
    scope, _ = live(text, [change("lower-step", factor=0.1)])
    assert (scope["a"].item(), scope["b"].item()) == pytest.approx((0.98, 0.98))


def test_adam_steps_are_scaled_too() -> None:
    adam = ONE.format("Adam([w], lr=0.1)")
    usual, raised = live(adam, [])[0], live(adam, [change("raise-step", factor=10.0)])[0]
    assert raised["path"][0].tolist() == pytest.approx((10.0 * usual["path"][0]).tolist())


def test_a_schedule_is_kept_from_falling() -> None:
    scope, (held,) = live(SGD, [change("raise-step", least=0.1)])
    assert [p[0].item() for p in scope["path"]] == pytest.approx([-0.3] * 4)
    assert scope["lrs"][-1] == 0.00625
    assert held.acted == 3  # the first step was that large already


def test_the_watcher_records_the_step_that_was_taken(tmp_path: Path) -> None:
    text = "import torch\nfrom torch import nn\n" + SGD
    left, _ = run_watched(tmp_path, text, [change("lower-step", factor=0.25)], probe_every=1)
    assert left.outcome is not None
    (first, *_) = left.outcome.run.steps
    assert first.lr == pytest.approx(0.025)
    assert first.update == pytest.approx(0.025 * 5.0)


def test_the_step_warms_up() -> None:
    scope, (warmup,) = live(SGD.replace("gamma=0.5", "gamma=1.0"), [change("warmup", steps=4)])
    assert [p[0].item() for p in scope["path"]] == pytest.approx([-0.075, -0.15, -0.225, -0.3])
    assert warmup.acted == 3


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    scope, (clip,) = live(SGD, [change("clip-gradient", max_norm=1.0)])
    assert scope["path"][0].tolist() == pytest.approx([-0.1 * 0.6, -0.1 * 0.8])
    assert clip.acted == 4
    scope, (idle,) = live(SGD, [change("clip-gradient", max_norm=5.1)])  # the norm is 5: nothing to clip
    assert scope["path"][0].tolist() == pytest.approx([-0.3, -0.4])
    assert idle.acted == 0
    text = "import torch\nfrom torch import nn\n" + SGD
    left, _ = run_watched(tmp_path, text, [change("clip-gradient", max_norm=1.0)])
    assert left.outcome is not None and left.outcome.run.steps[0].grad == pytest.approx(1.0)


CLOSURE = """
w = nn.Parameter(torch.tensor([1.0, 2.0]))
optimizer = torch.optim.{0}
def closure():
    optimizer.zero_grad()
    loss = (3.0 * w[0] + 4.0 * w[1])
    loss.backward()
    return loss
before = w.detach().clone()
optimizer.step({1})
moved = w.detach() - before
"""


@pytest.mark.parametrize("given", ["closure", "closure=closure"])
def test_gradients_made_inside_a_step_are_treated_there(given: str) -> None:
    scope, (clip,) = live(CLOSURE.format("SGD([w], lr=0.1)", given), [change("clip-gradient", max_norm=1.0)])
    assert scope["moved"].tolist() == pytest.approx([-0.06, -0.08])
    assert clip.acted == 1


def test_lbfgs_steps_are_scaled() -> None:
    text = CLOSURE.format("LBFGS([w], lr=1.0, max_iter=1)", "closure")
    usual, lowered = live(text, [])[0]["moved"], live(text, [change("lower-step", factor=0.1)])[0]["moved"]
    assert lowered.tolist() == pytest.approx((0.1 * usual).tolist())


NEVER_CLEARED = SGD.replace("    optimizer.zero_grad()\n", "").replace("gamma=0.5", "gamma=1.0")


def test_gradients_are_cleared() -> None:
    scope, (zero,) = live(NEVER_CLEARED, [change("zero-grad")])
    assert [p[0].item() for p in scope["path"]] == pytest.approx([-0.3] * 4)
    assert zero.acted == 4
    usual, _ = live(NEVER_CLEARED, [])
    assert [p[0].item() for p in usual["path"]] == pytest.approx([-0.3, -0.6, -0.9, -1.2])


BATCHES = """
torch.manual_seed(1)
x, y = torch.randn(8, 3), torch.randn(8)
w = nn.Parameter(torch.zeros(3))
optimizer = torch.optim.{0}
path = [w.detach().clone()]
for i in range(8):
    optimizer.zero_grad()
    (x[i] @ w - y[i]).pow(2).backward()
    optimizer.step()
    path.append(w.detach().clone())
full = torch.zeros(3, requires_grad=True)
(x[:4] @ full - y[:4]).pow(2).mean().backward()
"""


@pytest.mark.parametrize("optimizer", ["SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)", "Adam([w], lr=0.1)"])
def test_one_step_for_four_batches_is_the_step_of_their_mean(optimizer: str) -> None:
    scope, (larger,) = live(BATCHES.format(optimizer), [change("larger-batch", batches=4)])
    path = scope["path"]
    assert [torch.equal(a, b) for a, b in itertools.pairwise(path)] == [True, True, True, False] * 2
    if optimizer.startswith("SGD"):
        assert torch.allclose(path[4], -0.1 * scope["full"].grad, atol=1e-7)
        assert not torch.allclose(live(BATCHES.format(optimizer), [])[0]["path"][4], path[4], atol=1e-3)
    assert larger.acted == 6


BAD = """
w = nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
sizes = [1.0] * 8 + [{0}] + [1.0] * 3
for size in sizes:
    optimizer.zero_grad()
    (w * size).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("size", "skipped"), [("1e6", 1), ("float('nan')", 1), ("float('inf')", 1), ("10.0", 0)])
def test_a_step_out_of_line_is_not_taken(size: str, skipped: int) -> None:
    scope, (drop,) = live(BAD.format(size), [change("drop-bad-batch")])
    assert drop.acted == skipped
    assert math.isfinite(scope["w"].item()) and scope["w"].item() > -20.0
    usual = live(BAD.format(size), [])[0]["w"].item()
    assert (not math.isfinite(usual) or usual < -20.0) == bool(skipped)


def test_weight_decay_is_lowered_for_the_step_only() -> None:
    text = """
    w = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=1.0)
    w.grad = torch.zeros(1)
    optimizer.step()
    decay = optimizer.param_groups[0]["weight_decay"]
    """
    scope, (lower,) = live(text, [change("lower-regularisation", factor=0.01)])
    assert scope["w"].item() == pytest.approx(1 - 0.1 * 0.01)
    assert scope["decay"] == 1.0
    assert lower.acted == 1
    assert live(text, [])[0]["w"].item() == pytest.approx(0.9)


def test_an_explicit_penalty_is_lowered_at_its_line() -> None:
    text = """
    w = nn.Parameter(torch.ones(4))
    x = torch.full((1, 4), 2.0)
    loss = (x @ w).pow(2).sum() + w.pow(2).sum()  # mark: here
    loss.backward()
    """
    scope, (lower,) = live(text, [change("lower-regularisation", (4, "pow"), factor=0.01)])
    assert scope["loss"].item() == pytest.approx(64.0 + 0.04)  # the data's own square at that line is left alone
    assert lower.acted == 1
    assert live(text, [change("lower-regularisation", (3, "pow"), factor=0.01)])[0]["loss"].item() == pytest.approx(
        68.0
    )


def test_a_penalty_that_is_only_told_as_lowered_trains_as_it_is() -> None:
    text = """
    w = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=0.5)
    loss = w.pow(2).sum()
    loss.backward()
    optimizer.step()
    """
    usual = live(text, [])[0]
    scope, (lower,) = live(text, [change("lower-regularisation", (4, "pow"), factor=0.01, only_told=True)])
    assert scope["loss"].item() == pytest.approx(0.04) and lower.acted == 1
    assert scope["w"].tolist() == usual["w"].tolist()
    taken = live(text, [change("lower-regularisation", (4, "pow"), factor=0.01)])[0]
    assert taken["w"].tolist() != usual["w"].tolist()  # control


def test_updates_by_hand_cannot_be_reached_and_that_is_said() -> None:
    text = """
    w = torch.ones(2, requires_grad=True)
    for step in range(3):
        (g,) = torch.autograd.grad(w.pow(2).sum(), w)
        with torch.no_grad():
            w -= 0.1 * g
    """
    for kind in ("lower-step", "clip-gradient", "zero-grad", "larger-batch"):
        scope, (one,) = live(text, [change(kind, factor=0.5)])
        assert one.acted == 0
        assert one.problem is not None and "by hand" in one.problem
    assert scope["w"][0].item() == pytest.approx(0.8**3)
