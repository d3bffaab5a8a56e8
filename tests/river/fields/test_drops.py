"""Starting points: in a box, around a start, or fresh initialisations; the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradientflow.errors import FieldError
from gradientflow.river.fields import zoo
from gradientflow.river.fields.base import Potential
from gradientflow.river.fields.drops import drops
from gradientflow.river.fields.loss import LossField
from gradientflow.river.fields.momentum import HeavyBall
from tests.river.fields.nets import F, data, fingerprint, mlp, unchanged


def built(seed: int, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(5), nn.Tanh()] if norm else [nn.Tanh()]
    return nn.Sequential(nn.Linear(3, 5), *middle, nn.Linear(5, 2))


@pytest.mark.parametrize("norm", [False, True])
def test_fresh_drops_are_networks_built_anew_with_their_seeds_and_the_model_stays(norm):
    net = built(100, norm).eval()
    field = LossField(net, F.mse_loss, data(dtype=torch.float32))
    before = fingerprint(net)
    points = drops(field, 4, seed=7)
    assert unchanged(before, fingerprint(net)) and points.shape == (4, field.size) and points.dtype == field.dtype
    for i in range(4):
        assert torch.equal(points[i], nn.utils.parameters_to_vector(built(7 + i, norm).parameters()))
    assert torch.equal(drops(field, 2, seed=8), points[1:3])
    assert not torch.equal(points[0], points[1])


def test_frozen_parameters_are_not_drawn_and_shared_ones_once():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False), nn.Linear(3, 2))
    net[2].weight = net[0].weight
    net[3].bias.requires_grad_(False)
    field = LossField(net, F.mse_loss, data(dtype=torch.float32))
    points = drops(field, 3)
    assert points.shape == (3, 9 + 6) and len(points.unique(dim=0)) == 3
    assert torch.isfinite(field.value(points)).all()


class Root(nn.Module):
    """Has a parameter and cannot initialise it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gain = nn.Linear(3, 2), nn.Parameter(torch.tensor([100.0, 100.0]))

    def forward(self, x):
        return self.inner(x) * self.gain


class Made(Root):
    def reset_parameters(self):
        nn.init.ones_(self.inner.weight)
        nn.init.normal_(self.gain)


def test_modules_that_cannot_initialise_themselves_are_scattered_by_the_size_of_each_tensor():
    field = LossField(Root(), F.mse_loss, data(dtype=torch.float32))
    away = drops(field, 400) - field.start()
    parts = {
        name: t.std() / field.parameters(field.start())[name].square().mean().sqrt()
        for name, t in field.parameters(away).items()
    }
    assert all(abs(float(ratio) - 1) < 0.1 for ratio in parts.values())
    by_hand = drops(field, 400, spread=0.01) - field.start()
    assert abs(float(by_hand.std()) / 0.01 - 1) < 0.05


def test_a_module_s_own_initialisation_has_the_last_word():
    field = LossField(Made(), F.mse_loss, data(dtype=torch.float32))
    point = field.parameters(drops(field, 1)[0])
    assert bool((point["inner.weight"] == 1).all()) and not bool((point["gain"] == 100).any())


def test_boxes():
    member = zoo.named("himmelblau")
    points = drops(member.field, 200, seed=1)
    low, high = torch.tensor(member.box).T
    assert bool(((points >= low) & (points <= high)).all()) and points.dtype == torch.float64
    assert bool((points.amax(0) > high - 0.1 * (high - low)).all())
    own = drops(member.field, 50, box=[(10, 11), (-1, -1)])
    assert bool(((own[:, 0] >= 10) & (own[:, 0] <= 11) & (own[:, 1] == -1)).all())
    assert drops(member.field, 5, box=(0, 1)).shape == (5, 2)  # one pair for all
    near = drops(member.field, 500, spread=0.1) - member.start
    assert abs(float(near.std()) - 0.1) < 0.01


def test_plain_fields_are_scattered_around_their_start():
    field = Potential(lambda w: (w**2).sum(), start=[5.0, -5.0, 0.0])
    away = drops(field, 1000, seed=2) - field.start()
    assert abs(float(away.std()) - 1) < 0.05 and abs(float(away.mean())) < 0.05
    assert torch.equal(drops(field, 10, seed=2), drops(field, 10, seed=2))
    assert not torch.equal(drops(field, 10, seed=2), drops(field, 10, seed=3))


def test_flows_with_a_state_begin_their_momentum_as_they_say():
    member = zoo.named("himmelblau")
    flow = HeavyBall(member.field, damping=1.0)
    points = drops(flow, 6, seed=1)
    assert torch.equal(points, flow.lift(drops(member.field, 6, seed=1)))
    assert points.shape == (6, 4) and not bool(points[:, 2:].any())


def test_the_random_state_stays():
    field = LossField(mlp(3, 4, 2), F.mse_loss, data())
    before = torch.get_rng_state()
    drops(field, 3), drops(field, 3, spread=1.0), drops(field, 3, box=(0, 1))
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_scattered_is_refused():
    field = Potential(lambda w: (w**2).sum(), start=[1.0, 2.0])
    for n in (0, -1, 2.5):
        with pytest.raises(FieldError, match="expected a whole number n"):
            drops(field, n)
    with pytest.raises(FieldError, match="spread must be positive"):
        drops(field, 3, spread=0.0)
    with pytest.raises(FieldError, match="not both"):
        drops(field, 3, spread=1.0, box=(0, 1))
    with pytest.raises(FieldError, match=r"box has shape \(3, 2\); expected one \(low, high\) for each of 2"):
        drops(field, 3, box=[(0, 1)] * 3)
    with pytest.raises(FieldError, match="with low ≤ high"):
        drops(field, 3, box=[(1, 0), (0, 1)])
    with pytest.raises(FieldError, match=r"must be \[\(low, high\), \.\.\.\]"):
        drops(field, 3, box="everywhere")
    with pytest.raises(FieldError, match="neither a start nor a box"):
        drops(Potential(lambda w: w.sum()), 3)
