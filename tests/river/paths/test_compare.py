"""A flow and descents beside it: distances on one clock, the predicted error, and why they part."""

import math

import pytest
import torch

from gradientflow.errors import UsageError
from gradientflow.river import LossField, Path, Potential, compare, descend, flow

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
    assert side.left is not None and side.crossed == 0.0
    assert "2/η = 4.444" in side.why
    calm = compare(path, descend(field, torch.optim.SGD, t=10.0, lr=0.01)).beside[0]
    assert calm.left is None and calm.crossed is None


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
