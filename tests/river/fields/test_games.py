"""Games: signs, what is conserved, and who may go up."""

from __future__ import annotations

import math

import pytest
import torch

from gradientflow.errors import FieldError
from gradientflow.river.fields import zoo
from gradientflow.river.fields.base import Potential
from gradientflow.river.fields.games import MinMaxFlow
from tests.river.fields.checks import difference, jacobian, jacobian_gap, judge, rate, rows_gap, slope_of_value

LOSS = Potential(lambda z: z[0] ** 2 * z[1] - z[2] ** 2 * z[0] + torch.sin(z[1] * z[2]), start=[0.3, 0.2, -0.4])
Z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "ascend", [[1, 2], slice(1, None), torch.tensor([False, True, True])], ids=["list", "slice", "mask"]
)
def test_descent_for_one_and_ascent_for_the_other(ascend):
    game = MinMaxFlow(LOSS, ascend)
    slope = slope_of_value(LOSS, Z)
    assert torch.allclose(rate(game, Z), slope * torch.tensor([-1.0, 1.0, 1.0]).double(), atol=1e-9)
    assert not torch.allclose(rate(game, Z), -slope, atol=1e-3)
    assert jacobian_gap(game, Z) < 1e-8 < jacobian_gap(game, Z, wrong=1e-3)
    assert rows_gap(game, Z) < 1e-12 and not game.potential
    j = jacobian(game, Z[:1])[0]
    assert not torch.allclose(j, j.T, atol=1e-3)
    assert torch.equal(game.value(Z), LOSS.value(Z)) and torch.equal(game.start(), LOSS.start())


def test_the_bilinear_game_turns_and_descent_ascent_spirals_out():
    game = zoo.named("bilinear-game")
    z0 = torch.tensor([0.6, -0.8], dtype=torch.float64)
    assert float(judge(game.field, z0, 7.0).norm()) == pytest.approx(1.0, abs=1e-11)
    z = z0.clone()
    for _ in range(100):
        z = z + 0.1 * rate(game.field, z[None])[0]
    assert float(z.norm()) == pytest.approx(1.644631821844, rel=1e-11)  # (1 + η²)^{k/2}
    x, y = z0.tolist()
    for _ in range(100):  # taking turns is another method, and stays near
        x -= 0.1 * y
        y += 0.1 * x
    assert math.hypot(x, y) < 1.1


def test_conserved_quantities_are_the_callers():
    law = {"radius": lambda z: (z * z).sum(1, keepdim=True)}
    game = MinMaxFlow(lambda z: z[0] * z[1], ascend=[1], conserved=law)
    z = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert float(difference(lambda at: game.conserved(at)["radius"], z, rate(game, z)).abs()) < 1e-10
    assert game.conserved(z)["radius"].tolist() == [[5.0]]
    assert not MinMaxFlow(LOSS, [1]).conserved(Z)


@pytest.mark.parametrize("ascend", [[], [0, 1, 2], slice(0, 0), torch.tensor([True, True, True])])
def test_a_game_needs_two_players(ascend):
    with pytest.raises(FieldError, match="goes down and one that goes up"):
        MinMaxFlow(LOSS, ascend)


def test_coordinates_that_are_not_there_are_told():
    with pytest.raises(FieldError, match="does not fit a point of 3 numbers"):
        MinMaxFlow(LOSS, [7])
    late = MinMaxFlow(lambda z: (z**2).sum(), ascend=[2])  # size not known yet: told at the first evaluation
    with pytest.raises(FieldError, match="does not fit a point of 2 numbers"):
        late.evaluate(torch.ones(1, 2))
