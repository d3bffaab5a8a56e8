"""Terms that train nothing, on real little runs: told at their line, and silence on the twins that only look like it."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from gradientflow.records import Finding, Verdict
from tests.depth.causes.test_rules_on_live_runs import here, top
from tests.depth.causes.test_samples import verdict_of

STEPS = 6
X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :1] * X[:, 1:2] + X[:, 2:3]


def mlp(act: Callable[[], nn.Module] = nn.Tanh, out: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, out))


def train(loss: Callable[[nn.Module], Tensor], net: nn.Module | None = None, lr: float = 1e-2) -> None:
    net = net or mlp()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()


def told(verdict: Verdict, *causes: str) -> list[Finding]:
    return [f for f in verdict.findings if f.cause in causes]


# ── addends without a graph ──────────────────────────────────────────────────────────────────────────────────────────


def forces(net: nn.Module) -> Tensor:
    x = X.clone().requires_grad_(True)
    e = net(x)
    f = torch.autograd.grad(e.sum(), x, retain_graph=True)[0]  # HERE
    return 0.1 * (e - Y).pow(2).mean() + (f - 1.0).pow(2).mean()


def number(net: nn.Module) -> Tensor:
    p = net(X)
    smooth = (p[1:] - p[:-1]).pow(2).mean()
    return F.mse_loss(p, Y) + 0.1 * smooth.item()  # HERE


def rest_of_one(net: nn.Module) -> Tensor:
    p = net(X)
    likeness = float(F.cosine_similarity(p.detach(), Y, dim=0).mean())  # HERE
    return F.mse_loss(p, Y) + (1 - likeness)


def without_gradients(net: nn.Module) -> Tensor:
    with torch.no_grad():
        penalty = sum(w.abs().sum() for w in net.parameters())  # HERE
    loss = F.mse_loss(net(X), Y)
    loss += 1e-3 * penalty
    return loss


def detached(net: nn.Module) -> Tensor:
    p = net(X)
    return torch.stack([F.mse_loss(p, Y), p.detach().pow(2).mean()]).sum()  # HERE


def made_anew(net: nn.Module) -> Tensor:
    p = net(X)
    parts = [F.mse_loss(p, Y), (p - 1).abs().mean()]
    return parts[0] + 0.5 * torch.tensor(parts[1:]).sum()  # HERE


def roughness(p: Tensor) -> float:
    values = p.detach().numpy()  # HERE-outside
    return float(abs(values[1:] - values[:-1]).mean())


def outside(net: nn.Module) -> Tensor:
    p = net(X)
    rough = torch.tensor(roughness(p))
    return F.mse_loss(p, Y) + 0.5 * rough


def outside_as_a_number(net: nn.Module) -> Tensor:
    p = net(X)
    rough = 0.5 * roughness(p)
    return F.mse_loss(p, Y) + rough


def for_the_log_only(net: nn.Module) -> Tensor:
    p = net(X)
    LOG.append(roughness(p))
    weight = 1.0 / (1 + len(LOG))
    return F.mse_loss(p, Y) + weight


@pytest.mark.parametrize("loss", [outside, outside_as_a_number], ids=lambda f: f.__name__)
def test_a_number_from_outside_is_told_by_its_name(loss: Callable[[nn.Module], Tensor]) -> None:
    (found,) = told(verdict_of(lambda: train(loss)), "disconnected-parameters")
    text, first = inspect.getsourcelines(roughness)
    assert found.place is not None and found.place.line == first + next(
        i for i, t in enumerate(text) if "HERE-outside" in t
    )


def data_of_weights(net: nn.Module) -> Tensor:
    size = sum(w.data.norm() for w in net.parameters())  # HERE
    return F.mse_loss(net(X), Y) + 1e-2 * size


def sum_of_numbers(net: nn.Module) -> Tensor:
    size = 0.0
    for w in net.parameters():
        size += w.detach().abs().sum().item()  # HERE
    return F.mse_loss(net(X), Y) + 1e-2 * size


LOST = [data_of_weights, sum_of_numbers, forces, number, rest_of_one, without_gradients, detached, made_anew]


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")
@pytest.mark.parametrize("loss", LOST, ids=lambda f: f.__name__)
def test_an_addend_without_a_graph_is_told_at_its_cut(loss: Callable[[nn.Module], Tensor]) -> None:
    found = top(verdict_of(lambda: train(loss)), "disconnected", "disconnected-parameters", here(loss))
    assert found.evidence["term_without_graph"]
    assert found.evidence["addend"] > 0


def forces_with_graph(net: nn.Module) -> Tensor:
    x = X.clone().requires_grad_(True)
    e = net(x)
    f = torch.autograd.grad(e.sum(), x, create_graph=True)[0]
    return 0.1 * (e - Y).pow(2).mean() + (f - 1.0).pow(2).mean()


def straight_through(net: nn.Module) -> Tensor:
    p = net(X)
    q = p + (p.round() - p).detach()
    return F.mse_loss(q, Y) + (p.mean() - p.mean().detach())


def weighed(net: nn.Module) -> Tensor:
    p = net(X)
    a, b = F.mse_loss(p, Y), p.pow(2).mean()
    return a / a.item() + (a.item() / b.item()) * b + 0.5


def constants(net: nn.Module) -> Tensor:
    return F.mse_loss(net(X), Y) + Y.var() + torch.tensor(0.3) + X.pow(2).mean()


def teacher(net: nn.Module) -> Tensor:
    p = net(X)
    with torch.no_grad():
        wanted = (net(X) * 2).softmax(0)
    return F.mse_loss(p, Y) + (wanted * (wanted.log() - p.log_softmax(0))).sum()


def advantage(net: nn.Module) -> Tensor:
    p = net(X)
    return -(p.log_softmax(0) * (Y - p.detach())).mean() + F.smooth_l1_loss(p, Y + 0.9 * p.detach())


def logged(net: nn.Module) -> Tensor:
    loss = F.mse_loss(net(X), Y)
    LOG.append(loss.item())
    return loss + 0.25 * len(LOG)


LOG: list[float] = []
HEALTHY = [forces_with_graph, straight_through, weighed, constants, teacher, advantage, logged, for_the_log_only]


@pytest.mark.parametrize("loss", HEALTHY, ids=lambda f: f.__name__)
def test_constants_targets_weights_and_straight_through_are_no_lost_addends(
    loss: Callable[[nn.Module], Tensor],
) -> None:
    assert not told(verdict_of(lambda: train(loss)), "disconnected-parameters")


def test_a_teacher_of_its_own_weights_is_no_addend_of_the_student() -> None:
    other = mlp()

    def distil(net: nn.Module) -> Tensor:
        with torch.no_grad():
            level = other(X).pow(2).mean()
        return F.mse_loss(net(X), Y) + level

    assert not told(verdict_of(lambda: train(distil)), "disconnected-parameters")


# ── derivatives that are zero ────────────────────────────────────────────────────────────────────────────────────────


def curvature(net: nn.Module) -> Tensor:
    x = X.clone().requires_grad_(True)
    u = net(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    ddu = torch.autograd.grad(du[:, 0].sum(), x, create_graph=True)[0]
    return (ddu[:, 0] + x[:, 0].sin()).pow(2).mean() + F.mse_loss(u, Y)


@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh])
def test_a_second_derivative_through_straight_pieces_is_told_at_the_activation(act: Callable[[], nn.Module]) -> None:
    verdict = verdict_of(lambda: train(curvature, mlp(act)))
    (found,) = told(verdict, "zero-derivative")
    assert found is verdict.findings[0] and verdict.symptom == "dead"
    assert found.evidence["zero_entries"] == 1.0 and found.evidence["activation"] in ("relu", "leaky_relu", "hardtanh")


@pytest.mark.parametrize("act", [nn.Tanh, nn.SiLU, nn.Softplus, nn.GELU])
def test_a_second_derivative_of_smooth_activations_is_not(act: Callable[[], nn.Module]) -> None:
    assert not told(verdict_of(lambda: train(curvature, mlp(act))), "zero-derivative")


def by_one_helper(net: nn.Module) -> Tensor:
    def slope(u: Tensor) -> Tensor:
        return torch.autograd.grad(u.sum(), x, create_graph=True)[0][:, :1]

    x = X.clone().requires_grad_(True)
    u = net(x)
    return (slope(u) - 0.1 * slope(slope(u)) + u).pow(2).mean()


def test_derivatives_of_all_orders_on_one_line_are_told_apart() -> None:
    (found,) = told(verdict_of(lambda: train(by_one_helper, mlp(nn.ReLU))), "zero-derivative")
    assert found.evidence["activation"] == "relu"
    assert not told(verdict_of(lambda: train(by_one_helper)), "zero-derivative")


def penalty(net: nn.Module) -> Tensor:
    x = X.clone().requires_grad_(True)
    g = torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]
    return F.mse_loss(net(X), Y) + 0.1 * (g.norm(dim=1) - 1).pow(2).mean()


def test_a_gradient_penalty_through_relu_has_a_first_derivative() -> None:
    assert not told(verdict_of(lambda: train(penalty, mlp(nn.ReLU))), "zero-derivative", "disconnected-parameters")


def rounded(net: nn.Module) -> Tensor:
    return F.mse_loss(net(X).round(), Y)  # HERE


def signs(net: nn.Module) -> Tensor:
    return F.relu(1 - torch.sign(net(X)) * Y.sign()).mean()  # HERE


def floors(net: nn.Module) -> Tensor:
    return (torch.floor(net(X) * 4) / 4 - Y).abs().mean()  # HERE


@pytest.mark.parametrize("loss", [rounded, signs, floors], ids=lambda f: f.__name__)
def test_a_step_function_on_the_way_is_told(loss: Callable[[nn.Module], Tensor]) -> None:
    found = top(verdict_of(lambda: train(loss)), "dead", "zero-derivative", here(loss))
    assert [r.kind for r in found.remedies] == ["straight-through"]


def argmax(net: nn.Module) -> Tensor:
    loss = (net(X).argmax(1).float() - Y[:, 0]).pow(2).mean()  # HERE
    return loss.requires_grad_(True)


def leaf_in_the_middle(net: nn.Module) -> Tensor:
    right = (net(X)[:, 0] > 0).float().requires_grad_()  # HERE
    return F.mse_loss(right, (Y[:, 0] > 0).float())


def compared(net: nn.Module) -> Tensor:
    right = (net(X)[:, 0] > 0).float()  # HERE
    return (1 - (right == (Y[:, 0] > 0)).float().mean()).requires_grad_()


@pytest.mark.parametrize("loss", [argmax, compared, leaf_in_the_middle], ids=lambda f: f.__name__)
def test_a_loss_that_was_made_a_leaf_is_told_where_it_was_cut(loss: Callable[[nn.Module], Tensor]) -> None:
    found = top(verdict_of(lambda: train(loss, mlp(out=3))), "disconnected", "disconnected-parameters", here(loss))
    assert found.evidence["without_gradient"] == 6


# ── normalisations over one element ──────────────────────────────────────────────────────────────────────────────────


def ended(*last: nn.Module, before: tuple[nn.Module, ...] = ()) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), *before, nn.Linear(16, 1), *last)


class ByHand(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "centred":
            return x - x.mean(-1, keepdim=True)
        return x / x.sum(-1, keepdim=True)


def plain(net: nn.Module) -> Tensor:
    return F.mse_loss(net(X), Y)


SINGLE = [
    (ended(nn.LayerNorm(1)), "output-activation"), (ended(nn.Softmax(-1)), "output-activation"),
    (ended(nn.GroupNorm(1, 1)), "output-activation"), (ended(ByHand("centred")), "output-activation"),
    (ended(ByHand("divided")), "output-activation"), (ended(nn.LogSoftmax(1)), "output-activation"),
    (ended(before=(nn.GroupNorm(16, 16),)), "dead-units"),
]  # fmt: skip


@pytest.mark.parametrize(("net", "cause"), SINGLE, ids=lambda n: type(n).__name__)
def test_a_normalisation_over_one_element_is_told(net: nn.Module, cause: str) -> None:
    found = top(verdict_of(lambda: train(plain, net)), "dead", cause)
    assert found.evidence["entries_of_a_normalisation"] == 1 < found.evidence["threshold_entries_of_a_normalisation"]


class Beside(nn.Module):
    """A way round: attention to a single key, a skip past a norm of one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.out, self.norm = nn.Linear(4, 16), nn.Linear(16, 1), nn.LayerNorm(1)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)[:, None]
        y = self.out(self.attend(h, h, h, need_weights=False)[0][:, 0])
        return y + self.norm(y)


SEVERAL = [ended(), ended(before=(nn.LayerNorm(16),)), ended(before=(nn.GroupNorm(4, 16),)), Beside()]


@pytest.mark.parametrize("net", SEVERAL, ids=lambda n: type(n).__name__)
def test_a_normalisation_over_more_or_beside_the_way_is_not(net: nn.Module) -> None:
    assert not told(verdict_of(lambda: train(plain, net)), "output-activation", "dead-units")


# ── functions of the script's own ────────────────────────────────────────────────────────────────────────────────────


class Deaf(Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return 1 - x.tanh() ** 2  # HERE


class Heeding(Deaf):
    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return g * (1 - x.tanh() ** 2)


class Clipping(Deaf):
    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g.clamp(-0.01, 0.01)


class Normalising(Deaf):
    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g / (g.norm() + 1e-12)


class Counting(Deaf):
    calls = 0

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        Counting.calls += 1
        return torch.ones_like(g)


class Squared(Function):
    @staticmethod
    def forward(ctx, p, y):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(p - y)
        return (p - y).pow(2).mean()

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (d,) = ctx.saved_tensors
        return 2 * d / d.numel(), None


class Zero(Deaf):
    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return torch.zeros_like(g)  # HERE


def through(function: type[Function]) -> Callable[[nn.Module], Tensor]:
    return lambda net: F.mse_loss(function.apply(net[2](net[1](net[0](X))))[:, :1], Y)  # type: ignore[index]


def test_a_backward_that_leaves_out_what_it_is_given_is_told_at_its_line() -> None:
    (found,) = told(verdict_of(lambda: train(through(Deaf))), "wrong-backward")
    assert found.place is not None and found.place.line in here(Deaf.backward)
    assert found.evidence["error_for_2g"] == 0.5


@pytest.mark.parametrize("function", [Heeding, Clipping, Normalising, Counting], ids=lambda f: f.__name__)
def test_one_that_heeds_it_is_not_and_one_with_a_state_is_not_called_again(function: type[Function]) -> None:
    Counting.calls = 0
    assert not told(verdict_of(lambda: train(through(function))), "wrong-backward")
    assert Counting.calls == (STEPS if function is Counting else 0)


def test_a_loss_whose_gradient_is_one_may_leave_it_out() -> None:
    assert not told(verdict_of(lambda: train(lambda net: Squared.apply(net(X), Y))), "wrong-backward")
    scaled = verdict_of(lambda: train(lambda net: Squared.apply(net(X), Y) * 0.05))
    assert told(scaled, "wrong-backward")


def test_a_backward_of_nothing_but_zero_is_told_at_its_line() -> None:
    found = top(verdict_of(lambda: train(through(Zero))), "dead", "zero-derivative", here(Zero.backward))
    assert [r.kind for r in found.remedies] == ["use-gradient"]


def test_a_function_has_a_row_of_its_own_in_the_budget() -> None:
    rows = verdict_of(lambda: train(through(Heeding))).budget.by_op
    (own,) = [row for row in rows if row.name == "Heeding"]
    assert own.decades is not None and own.line is not None
    assert list(itertools.chain(r.name for r in rows)).count("linear") == 2
