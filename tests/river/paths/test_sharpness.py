"""What is told of the sharpness was measured: where it is told, to the residual told, at the cost told; and not elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradientflow.errors import FieldError, UsageError
from gradientflow.river import Keep, LossField, Path, Potential, VectorField, compare, descend, flow, sharpness
from gradientflow.river.paths.edges import bracket
from gradientflow.river.told import apart, track
from tests.river.fields.nets import F, data, mlp

D = torch.float64


def curvatures(t: Tensor) -> Tensor:
    """The one falls, the other rises and overtakes it at t = 4.9: the first eigenvector changes."""
    return torch.stack([4.0 / (1 + 0.4 * t), 0.2 + 0.6 * torch.exp(0.14 * t)])


def overtaking(many: int = 60) -> Potential:
    """w₀ = t and all others stay near 0, so that the Hessian's eigenvalues are those of `curvatures`, and small ones."""

    def loss(w: Tensor) -> Tensor:
        k = curvatures(w[0])
        rest = torch.linspace(0.0, 0.4, many, dtype=D) @ w[3:] ** 2
        return -w[0] + 0.5 * (k[0] * w[1] ** 2 + k[1] * w[2] ** 2 + rest)

    return Potential(loss, start=torch.cat([torch.zeros(1, dtype=D), torch.full((many + 2,), 1e-4, dtype=D)]))


def test_told_values_are_those_of_the_moment_and_between_there_are_none():
    path = flow(overtaking(), 20.0, keep=Keep(theta=True), rtol=1e-8)
    known = ~path.sharpness.isnan()
    truth = curvatures(path.times).amax(0)
    assert 5 <= int(known.sum()) < len(path) and bool(known[0]) and bool(known[-1])
    assert path.sharpness_bound is not None
    assert bool(((path.sharpness - truth).abs()[known] <= path.sharpness_bound[known] + 1e-5).all())
    assert bool((path.sharpness_bound[known] <= 0.02 * truth[known]).all())
    assert torch.equal(known, ~path.sharpness_bound.isnan()) and torch.equal(known, ~path.lambda_min.isnan())
    stale = path.sharpness[known][known.long().cumsum(0) - 1]  # control: as last measured they would be wrong
    assert float(((stale - truth) / truth).abs().max()) > 0.05
    assert 0 < path.cost.looking < path.cost.equivalents - path.cost.checking
    assert path.certificates.named("stability").ok


def test_a_path_does_not_depend_on_what_is_kept_of_it():
    field = overtaking(4)
    kept = [Keep(), Keep(theta=True, every=3), Keep(at=[0.0, 5.0, 20.0], sharpness=2), Keep(sharpness=0)]
    ends = [flow(field, 20.0, keep=keep, certify=False).final for keep in kept]
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_who_wants_no_sharpness_pays_for_no_look_but_the_solvers_own():
    none, some = (flow(overtaking(4), 20.0, keep=keep, certify=False) for keep in (Keep(sharpness=0), Keep()))
    assert bool(none.sharpness.isnan().all()) and not bool(some.sharpness.isnan().all())
    assert none.cost.looking < some.cost.looking and torch.equal(none.final, some.final)


def hessian_values(field: LossField, theta: Tensor) -> Tensor:
    apply = field.linearize(theta[None])
    rows = [apply(row[None])[0].neg() for row in torch.eye(len(theta), dtype=theta.dtype)]
    return torch.linalg.eigvalsh(torch.stack(rows)).flip(0)


def small() -> LossField:
    return LossField(mlp(3, 4, 2), F.mse_loss, data())


def top_three(path: Path, field: LossField) -> None:
    top, bound = path.kept["sharpness"], path.kept["sharpness_bound"]
    assert top.shape == bound.shape == (len(path), 3) and path.theta is not None
    truth = torch.stack([hessian_values(field, w)[:3] for w in path.theta])
    assert float((top - truth).abs().max() / truth.max()) < 1e-3
    assert bool((bound <= 0.011 * truth[:, :1]).all()) and torch.equal(path.sharpness, top[:, 0])
    assert not float((top[1:] - truth[:-1]).abs().max() / truth.max()) < 1e-3  # control: of another moment they are not


def test_the_top_few_at_every_kept_moment():
    field = small()
    keep: dict[str, Any] = {"theta": True, "sharpness": 3}
    for what in (Keep(**keep), Keep(at=[0.0, 0.5, 2.5, 6.0], **keep), Keep(every=4, **keep)):
        path = flow(field, 6.0, keep=what, certify=False)
        top_three(path, field)
        assert path.cost.looking > len(path)
    top_three(descend(field, torch.optim.SGD, 6.0, lr=0.5, keep=Keep(**keep)), field)


def test_asking_for_none_costs_least():
    field = small()
    spent = [flow(field, 6.0, keep=Keep(sharpness=k), certify=False).cost.looking for k in (0, None, 1, 3)]
    assert spent[0] <= spent[1] < spent[2] < spent[3]


def test_a_descent_is_measured_where_it_says():
    field = overtaking(4)
    path = descend(field, torch.optim.Adam, 4.0, lr=0.1, sharpness_every=7)
    known = (~path.sharpness.isnan()).nonzero()[:, 0].tolist()
    assert known == [*range(0, 40, 7), 40]
    again = descend(field, torch.optim.Adam, 4.0, lr=0.1, keep=Keep(theta=True))
    assert again.theta is not None and again.sharpness.isnan().all()  # nobody asked
    truth = torch.tensor([float(sharpness(field, again.theta[k])) for k in known], dtype=D)
    torch.testing.assert_close(path.sharpness[known], truth, rtol=1e-3, atol=0.0)
    inner = path.kept["preconditioned_sharpness"]
    assert (~inner.isnan()).nonzero()[:, 0].tolist() == known[1:]  # at the start there is no preconditioner


# ── at any point ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("k", [1, 2, 5])
def test_of_a_network_at_any_point(k: int):
    field = small()
    theta = field.start() + 0.3
    found = sharpness(field, theta, k, tolerance=1e-5)
    truth = hessian_values(field, theta)[:k]
    torch.testing.assert_close(found.values, truth, rtol=0.0, atol=1e-5 * float(truth[0]))
    assert bool(((found.values - truth).abs() <= found.residuals + 1e-9).all())
    assert float(found) == float(found.values[0]) and found.vectors.shape == (k, field.size)
    rough = sharpness(field, theta, k, max_products=1)  # what is not found is not claimed
    assert bool((rough.residuals > 0.05 * truth[0]).any())


def test_the_cost_told_is_what_the_field_was_asked(monkeypatch: pytest.MonkeyPatch):
    field, asked = small(), {"gradients": 0, "products": 0}
    evaluate, linearize = field.evaluate, field.linearize

    def counted_evaluate(theta: Tensor) -> Any:
        asked["gradients"] += len(theta)
        return evaluate(theta)

    def counted_linearize(theta: Tensor) -> Any:
        apply = linearize(theta)

        def product(v: Tensor) -> Tensor:
            asked["products"] += len(v)
            return apply(v)

        return product

    monkeypatch.setattr(field, "evaluate", counted_evaluate)
    monkeypatch.setattr(field, "linearize", counted_linearize)
    cost = sharpness(field, k=2).cost
    assert (cost.gradients, cost.hvps) == (asked["gradients"], asked["products"])
    assert cost.hvps > 4 and cost.looking == cost.equivalents


def test_an_eigenvalue_that_is_there_twice_is_found_twice():
    values = torch.cat([torch.tensor([9.0, 9.0, 9.0, 4.0], dtype=D), torch.linspace(-2.0, 1.0, 60, dtype=D)])
    bowl = Potential(lambda w: 0.5 * (values * w * w).sum(), start=torch.ones(64, dtype=D))
    torch.testing.assert_close(sharpness(bowl, k=4).values, values[:4], rtol=1e-3, atol=0.0)
    hill = sharpness(Potential(lambda w: -0.5 * (values[:4] * w * w).sum(), start=[1.0] * 4), k=1)
    assert float(hill) == pytest.approx(-4.0)  # the largest by value, not by size
    assert float(sharpness(lambda w: w.sum(), [1.0, 2.0])) == 0.0


@pytest.mark.parametrize(
    ("what", "more", "kind", "words"),
    [
        (VectorField(lambda z: -z, start=[1.0]), {}, UsageError, "has no loss"),
        (lambda w: w.sum(), {}, FieldError, "no starting point"),
        (lambda w: w.sum(), {"theta": torch.eye(2)}, FieldError, r"shape \(P,\)"),
        (lambda w: w.log().sum(), {"theta": [-1.0]}, FieldError, "not finite"),
        (lambda w: w.sum(), {"theta": [1.0, 2.0], "k": 3}, UsageError, "expected 1 to 2, got 3"),
        (lambda w: w.sum(), {"theta": [1.0], "k": 0}, UsageError, "got 0"),
        (lambda w: w.sum(), {"theta": [1.0], "tolerance": 0}, UsageError, "a tolerance between 0 and 1"),
        (Potential(lambda w: w.sum(), start=[1.0, 2.0]), {"theta": [1.0]}, FieldError, "has 2 parameters; the point has 1"),
    ],
)  # fmt: skip
def test_what_has_no_sharpness(what: Any, more: dict[str, Any], kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        sharpness(what, **more)


def test_what_cannot_be_kept():
    with pytest.raises(UsageError, match="has no loss, and so no Hessian"):
        flow(VectorField(lambda z: -z, start=[1.0]), 1.0, keep=Keep(sharpness=1))
    with pytest.raises(UsageError, match="is for single paths"):
        flow(small(), 1.0, starts=torch.zeros(2, 26), keep=Keep(sharpness=1))
    with pytest.raises(UsageError, match="0 or more, got -1"):
        Keep(sharpness=-1)
    with pytest.raises(UsageError, match="name yours otherwise"):
        Keep(sharpness=1, functions={"sharpness": lambda w: w})


# ── the edge ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_edge_is_crossed_once_between_two_measurements():
    field, lr = overtaking(4), 2 / 5.0  # the second curvature is 5 at t = ln(8)/0.14 = 14.85
    path = flow(field, 20.0)
    side = compare(path, descend(field, torch.optim.SGD, 20.0, lr=lr), predict=False)
    crossed = side.beside[0].crossed
    assert crossed is not None and crossed[0] < math.log(8) / 0.14 < crossed[1] < crossed[0] + 1.5
    assert apart(side)[0].crossed == crossed  # what a figure draws is what the sentence says
    late = compare(path, descend(field, torch.optim.SGD, 20.0, lr=2 / 50.0), predict=False).beside[0]
    assert late.crossed is None  # control: an edge that is not reached


def test_a_bracket():
    nan = float("nan")
    one = (torch.arange(5.0), torch.tensor([1.0, nan, 1.5, nan, 4.0]))
    assert bracket(2.0, one) == (2.0, 4.0) and bracket(5.0, one) is None and bracket(0.5, one) == (0.0, 0.0)
    assert bracket(2.0, one, (torch.tensor([3.0, 3.5]), torch.tensor([1.9, 2.1]))) == (3.0, 3.5)


def test_a_record_keeps_the_measured_moments_of_a_long_path():
    path = descend(overtaking(0), torch.optim.SGD, 10.0, lr=10.0 / 5000, sharpness_every=617)
    known = int((~path.sharpness.isnan()).sum())
    told = track(path, path.field)  # type: ignore[arg-type]
    assert len(path) == 5001 and known == 10 and 4000 <= len(told.times) <= 4000 + known
    assert sum(x is not None for x in told.sharpness) == known and len(told.sharpness_bound) == len(told.times)


class Tiny(nn.Module):
    """A pre-norm transformer whose sharpness falls at first and then grows threefold within a few long steps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(6, 16), nn.Parameter(torch.randn(6, 16) * 0.1)
        layer: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.blocks = nn.Sequential(*[nn.TransformerEncoderLayer(16, 2, 32, **layer) for _ in range(2)])
        self.out = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.blocks(self.embed(x) + self.place))
        return out


def test_a_transformer_whose_sharpness_turns():
    torch.manual_seed(2)
    model = Tiny().double()
    x = torch.randint(0, 6, (64, 6))
    field = LossField(model, lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()), (x, x.flip(1)))
    path = flow(field, 12.0, keep=Keep(theta=True))
    assert path.theta is not None and path.certificates.ok, str(path.certificates)
    known = (~path.sharpness.isnan()).nonzero()[:, 0].tolist()
    assert len(known) >= 4
    for k in known[1:]:
        assert float(path.sharpness[k]) == pytest.approx(float(sharpness(field, path.theta[k])), rel=0.01)
    assert float(path.sharpness[known[-1]]) > 2 * float(path.sharpness[known[1]])  # it turned
