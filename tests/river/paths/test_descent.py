"""Optimizers on the flow's clock: PyTorch's own steps, bit for bit, and a clock that adds up."""

import itertools

import pytest
import torch

from gradientflow.errors import UsageError
from gradientflow.river import Keep, LossField, LossTarget, Potential, descend, flow

START = [1.9, -1.2]


def product(w):
    return 0.5 * (w[0] * w[1] - 1) ** 2


def by_hand(make, steps, schedule=None):
    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = make([w])
    scheduler = schedule(optimizer) if schedule else None
    for _ in range(steps):
        optimizer.zero_grad()
        product(w).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
    return w.detach()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.Adam, {"betas": (0.8, 0.95)}),
        (torch.optim.RMSprop, {}),
        (torch.optim.Rprop, {}),
    ],
)
def test_the_steps_are_pytorchs_own(kind, settings):
    path = descend(product, kind, t=1.0, lr=0.05, start=START, **settings)
    expected = by_hand(lambda p: kind(p, lr=0.05, **settings), 20)
    assert torch.equal(path.final, expected)
    assert len(path) == 21 and path.times[-1] == 1.0 and path.status.reason == "reached"
    assert not torch.equal(path.final, by_hand(lambda p: kind(p, lr=0.05, **settings), 19))


def test_a_schedule_bends_the_clock():
    def halve(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)

    path = descend(product, torch.optim.SGD, t=0.75, lr=0.1, start=START, schedule=halve)
    assert torch.allclose(path.times, torch.tensor([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]).double())
    assert torch.equal(path.final, by_hand(lambda p: torch.optim.SGD(p, lr=0.1), 10, halve))
    stopped = descend(product, torch.optim.SGD, t=5.0, lr=0.1, start=START, schedule=halve)
    assert stopped.status.reason == "stuck" and "clock" in stopped.status.text


def test_an_optimizer_with_a_closure():
    path = descend(product, torch.optim.LBFGS, t=20.0, lr=1.0, start=START)
    assert float(path.loss[-1]) < 1e-12
    assert path.cost.gradients > len(path)  # its inner evaluations are counted


def test_a_model_is_descended_by_its_own_tensors_and_left_alone():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    before = [p.clone() for p in model.parameters()]
    x, y = torch.randn(10, 3, dtype=torch.float64), torch.randn(10, 1, dtype=torch.float64)
    path = descend(LossField(model, torch.nn.functional.mse_loss, (x, y)), torch.optim.Adam, t=0.5, lr=0.01)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    assert torch.allclose(
        path.final, torch.cat([p.detach().reshape(-1) for p in model.parameters()]), rtol=1e-10, atol=1e-12
    )
    assert set(path.parameters()) == {n for n, _ in model.named_parameters()}


def test_gradient_descent_tends_to_the_flow_at_first_order():
    path = flow(product, t=1.0, start=START, rtol=1e-9, certify=False)
    gaps = [
        float((descend(product, torch.optim.SGD, t=1.0, lr=lr, start=START).final - path.final).norm())
        for lr in (0.01, 0.005, 0.0025)
    ]
    assert all(1.9 < a / b < 2.1 for a, b in itertools.pairwise(gaps)), gaps
    late = float((descend(product, torch.optim.SGD, t=1.1, lr=0.0025, start=START).final - path.final).norm())
    assert not 1.9 < gaps[1] / late < 2.1  # another clock is no limit of this one


def test_divergence_and_events_and_budgets_are_told():
    away = descend(product, torch.optim.SGD, t=20.0, lr=3.0, start=START)
    assert away.status.reason == "diverged" and "smaller learning rate" in away.status.remedy
    there = descend(product, torch.optim.SGD, t=20.0, lr=0.1, start=START, events=[LossTarget(1e-3)])
    assert there.status.reason == "event" and float(there.loss[-2]) > 1e-3
    spent = descend(product, torch.optim.SGD, t=20.0, lr=0.1, start=START, max_gradients=10)
    assert spent.status.reason == "budget" and "max_gradients" in spent.status.remedy


def test_resume_is_the_uninterrupted_descent(tmp_path):
    file = tmp_path / "d.ckpt"
    kinds = {"lr": 0.05, "start": START}
    whole = descend(product, torch.optim.Adam, t=5.0, **kinds)
    first = descend(product, torch.optim.Adam, t=5.0, **kinds, checkpoint=file, max_gradients=40)
    assert first.status.reason == "budget" and file.exists()
    again = descend(product, torch.optim.Adam, t=5.0, **kinds, checkpoint=file, resume=True)
    assert torch.equal(again.final, whole.final) and torch.equal(again.loss, whole.loss) and not file.exists()
    assert not torch.equal(first.final, whole.final)


def test_sharpness_plain_and_preconditioned():
    stiff = Potential(lambda w: 0.5 * (torch.tensor([1.0, 100.0]).double() * w**2).sum())
    path = descend(stiff, torch.optim.RMSprop, t=0.2, lr=0.01, start=[1.0, 1.0], sharpness_every=1)
    assert torch.allclose(path.sharpness[1:], torch.tensor(100.0).double(), rtol=1e-3)
    inner = path.kept["preconditioned_sharpness"]
    assert float(inner[-1]) < 50 < float(path.sharpness[-1])  # dividing by √v̂ brings the two axes together


def test_bad_calls_say_what_is_known():
    with pytest.raises(UsageError, match="momentum, dampening"):
        descend(product, torch.optim.SGD, t=1.0, lr=0.1, start=START, momentun=0.9)
    with pytest.raises(UsageError, match="could not be made"):
        descend(product, torch.optim.SGD, t=1.0, lr=-0.1, start=START)
    with pytest.raises(UsageError, match="flow time"):
        descend(product, torch.optim.SGD, t=0.0, lr=0.1, start=START)
    with pytest.raises(UsageError, match="optimizer class"):
        descend(product, "sgd", t=1.0, lr=0.1, start=START)


def test_points_are_kept_when_asked():
    path = descend(product, torch.optim.SGD, t=1.0, lr=0.1, start=START, keep=Keep(theta=False))
    assert path.theta is None
    path = descend(product, torch.optim.SGD, t=1.0, lr=0.1, start=START, keep=Keep(theta=True, every=5))
    assert torch.allclose(path.times, torch.tensor([0, 0.5, 1.0]).double()) and path.theta.shape == (3, 2)
