"""A flow and descents beside it: distances on one clock, the predicted error, and why they part."""

import math

import pytest
import torch

from gradientflow.errors import UsageError
from gradientflow.river import LossField, Path, Potential, compare, descend, flow
from gradientflow.river.paths.compare import leaving

CURVES = torch.tensor([1.0, 3.0], dtype=torch.float64)


def bowl():
    return Potential(lambda w: 0.5 * (CURVES * w**2).sum(), start=[1.0, 1.0], name="bowl")


def test_distance_and_prediction_on_a_quadratic_are_the_closed_forms():
    field, lr = bowl(), 0.01
    path = flow(field, t=1.0, rtol=1e-8)
    side = compare(path, descend(field, torch.optim.SGD, t=1.0, lr=lr)).beside[0]
    t = side.times[:, None]
    exact = ((1 - lr * CURVES) ** (t / lr).round() - torch.exp(-CURVES * t)).norm(dim=1)
    leading = (lr / 2 * CURVES**2 * t * torch.exp(-CURVES * t)).norm(dim=1)
    assert torch.allclose(side.distance, exact, rtol=2e-3, atol=1e-8)
    assert torch.allclose(side.predicted, leading, rtol=1e-2, atol=1e-8)
    assert float(side.explained[-1]) > 0.95
    assert side.left is None and "stays" in side.why and side.edge == pytest.approx(200.0)
    wrong = (lr * CURVES**2 * t * torch.exp(-CURVES * t)).norm(dim=1)  # the factor ½ forgotten
    assert not torch.allclose(side.predicted, wrong, rtol=1e-2, atol=1e-8)


@pytest.mark.parametrize(
    ("settings", "edge"),
    [({}, 2 / 0.1), ({"momentum": 0.5}, 3 / 0.1), ({"momentum": 0.5, "nesterov": True}, 3 / (0.1 * 2))],
)
def test_edges_know_of_momentum(settings, edge):
    field = bowl()
    path = flow(field, t=1.0)
    side = compare(path, descend(field, torch.optim.SGD, t=1.0, lr=0.1, **settings), predict=False).beside[0]
    assert side.edge == pytest.approx(edge) and side.crossed is None


def test_a_descent_that_leaves_is_told_with_the_crossing():
    field = Potential(lambda w: 0.5 * (w[0] * w[1] - 1) ** 2, start=[1.9, -1.2])
    path = flow(field, t=10.0)
    side = compare(path, descend(field, torch.optim.SGD, t=10.0, lr=0.45)).beside[0]
    assert side.left is not None and side.crossed == (0.0, 0.0)
    assert "is above 2/η = 4.444 from the start" in side.why
    calm = compare(path, descend(field, torch.optim.SGD, t=10.0, lr=0.01)).beside[0]
    assert calm.left is None and calm.crossed is None


def stiff(first: float) -> Potential:
    """Modes of curvature 1 and 19; descent with η = 0.1 turns the second round by −0.9 a step."""
    return Potential(lambda w: 0.5 * (w[0] ** 2 + 19 * w[1] ** 2), start=[1.0, first])


def test_a_small_transient_at_the_start_is_no_leaving():
    """After one step the way gone is short, and the gap is a large part of it; of the whole way it is not."""
    for first, word in ((0.03, "stays with the flow"), (0.4, "strays and comes back")):
        field = stiff(first)
        side = compare(flow(field, t=6.0), descend(field, torch.optim.SGD, t=6.0, lr=0.1)).beside[0]
        early = float(side.distance[1] / (torch.exp(-0.1 * torch.tensor(1.0)) - 1.0).abs())
        assert early > 0.2 and side.crossed is None  # by the way gone so far it had left at once
        assert side.left is None and word in side.why
    assert float(side.relative.max()) > 0.3


def test_a_descent_that_crosses_the_edge_leaves_when_the_linear_recursion_says():
    """The sharpness 20 (1 + (x − 2)/20) along y passes 2/η = 20 at x = t = 2; from there y grows by |1 − η k(x)| a step."""
    lr, end, first = 0.1, 8.0, 0.05
    field = Potential(lambda w: -w[0] + 10 * (1 + 0.05 * (w[0] - 2)) * w[1] ** 2, start=[0.0, first])
    y, x, when = first, 0.0, None
    while when is None:  # the flow's y is gone at once, and its whole way is `end`
        y, x = y * (1 - lr * 20 * (1 + 0.05 * (x - 2))), x + lr
        when = x if abs(y) > 0.1 * end else None
    path = flow(field, t=end)
    side = compare(path, descend(field, torch.optim.SGD, t=end, lr=lr), predict=False).beside[0]
    assert side.crossed is not None and side.crossed[0] - 1e-9 <= 2.0 <= side.crossed[1] <= side.crossed[0] + 0.3
    assert side.left == pytest.approx(when, abs=0.4) and 4.0 < when < 6.5
    calm = compare(path, descend(field, torch.optim.SGD, t=end, lr=0.05), predict=False).beside[0]
    assert calm.left is None and calm.crossed is None and "stays" in calm.why  # negative control: half the rate


@pytest.mark.parametrize(
    ("relative", "left"),
    [
        ([0.0, 0.05, 0.09, 0.04], None), ([0.5, 0.5, 0.5, 0.5], 0.0), ([0.0, 0.2, 0.01, 0.3], 3.0),
        ([0.0, 0.2, 0.07, 0.3], 1.0), ([0.0, 0.2, 0.3, 0.06], 1.0), ([0.0, 0.9, 0.9, 0.05], None),
        ([0.0, 0.2, math.nan, math.nan], 1.0),
    ],
)  # fmt: skip
def test_leaving_is_for_good(relative: list[float], left: float | None):
    assert leaving(torch.arange(4.0), torch.tensor(relative)) == left


def test_adam_is_judged_by_its_preconditioned_sharpness():
    field = bowl()
    path = flow(field, t=2.0)
    tame = compare(path, descend(field, torch.optim.Adam, t=2.0, lr=0.05)).beside[0]
    assert tame.predicted is None and "stays below (2+2β₁)/((1−β₁)η) = 760" in tame.why
    wild = compare(path, descend(field, torch.optim.RMSprop, t=2.0, lr=0.5)).beside[0]
    assert wild.crossed is not None and "crosses 2/η = 4" in wild.why


def test_outputs_of_a_network_are_compared():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
    x, y = torch.randn(8, 2, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)
    field = LossField(model, torch.nn.functional.mse_loss, (x, y))
    path = flow(field, t=1.0)
    near, far = compare(
        path, descend(field, torch.optim.SGD, t=1.0, lr=0.01), descend(field, torch.optim.SGD, t=1.0, lr=0.2)
    ).beside
    assert float(near.output[-1]) < 0.02 < float(far.output[-1])
    assert float(near.distance[-1]) < float(far.distance[-1])
    assert abs(float(near.loss[-1])) < abs(float(far.loss[-1]))


def test_a_descent_cut_short_is_compared_up_to_there():
    field = bowl()
    path = flow(field, t=1.0)
    cut = descend(field, torch.optim.SGD, t=1.0, lr=0.01, max_gradients=30)
    side = compare(path, cut).beside[0]
    assert float(side.times[-1]) == pytest.approx(float(cut.times[-1])) and float(side.times[-1]) < 0.5


def test_what_cannot_be_compared_is_refused(tmp_path):
    field = bowl()
    path = flow(field, t=1.0)
    gd = descend(field, torch.optim.SGD, t=1.0, lr=0.1)
    with pytest.raises(UsageError, match="at least one"):
        compare(path)
    with pytest.raises(UsageError, match=r"gf\.descend"):
        compare(path, path)
    with pytest.raises(UsageError, match="starts elsewhere"):
        compare(path, descend(field, torch.optim.SGD, t=1.0, lr=0.1, start=[2.0, 2.0]))
    path.save(tmp_path / "p.npz")
    with pytest.raises(UsageError, match="does not carry"):
        compare(Path.load(tmp_path / "p.npz"), gd)


def test_it_prints_and_counts():
    field = bowl()
    found = compare(flow(field, t=1.0), descend(field, torch.optim.SGD, t=1.0, lr=0.1))
    assert "SGD lr=0.1" in str(found) and "predicted" in str(found)
    assert found.cost.gradients > 0 and math.isfinite(found.cost.seconds)
