"""Dict of parameters ↔ vector: order, views, casts, shared and frozen tensors, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradientflow.errors import FieldError
from gradientflow.space import Space


def test_flatten_and_unflatten_are_inverse_and_keep_the_order_of_the_module():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    space = Space.of(net)
    theta = space.flatten(dict(net.named_parameters()))
    assert space.names == ("0.weight", "0.bias", "2.weight", "2.bias") and space.size == len(space) == 26
    assert torch.equal(theta, nn.utils.parameters_to_vector(net.parameters()))
    back = space.unflatten(theta)
    assert all(torch.equal(back[name], p) for name, p in net.named_parameters())
    assert not torch.equal(space.unflatten(theta.flip(0))["0.weight"], net[0].weight)  # another order is another point


def test_parts_are_views_where_nothing_must_be_cast_and_rows_come_along():
    space = Space({"w": torch.zeros(2, 3), "b": torch.zeros(())})
    theta = torch.arange(7.0)
    parts = space.unflatten(theta)
    parts["w"][0, 0] = 42.0
    assert theta[0] == 42.0 and parts["b"].shape == ()
    rows = torch.arange(14.0).reshape(2, 7)
    assert torch.equal(space.unflatten(rows)["w"][1], space.unflatten(rows[1])["w"])


def test_theta_has_the_widest_dtype_and_parts_go_back_to_their_own():
    space = Space({"half": torch.zeros(2, dtype=torch.bfloat16), "double": torch.zeros(3, dtype=torch.float64)})
    assert space.dtype == torch.float64 and not space.plain
    theta = space.flatten({"half": torch.ones(2, dtype=torch.bfloat16), "double": torch.full((3,), 0.1).double()})
    assert theta.dtype == torch.float64
    assert [t.dtype for t in space.unflatten(theta).values()] == [torch.bfloat16, torch.float64]
    two_halves = Space({"a": torch.zeros(1, dtype=torch.bfloat16), "b": torch.zeros(1, dtype=torch.float16)})
    assert two_halves.dtype == torch.float32  # the narrowest that holds both


def test_shared_tensors_are_kept_once_and_frozen_ones_not_at_all():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 1))
    net[1].weight = net[0].weight
    net[2].bias.requires_grad_(False)
    assert Space.of(net).names == ("0.weight", "2.weight")
    tensors = dict(net.named_parameters(remove_duplicate=False))
    assert Space(tensors).aliases == {"1.weight": "0.weight"}
    assert Space.of(net, ["2.bias"]).names == ("2.bias",)  # named, it moves


def test_norms_and_places():
    space = Space({"w": torch.zeros(2, 2), "b": torch.zeros(2), "s": torch.zeros(())})
    theta = torch.tensor([3.0, 0.0, 0.0, 4.0, 0.0, 2.0, -1.0])
    norms = space.norms(torch.stack([theta, 2 * theta]))
    assert (
        norms["w"].tolist() == [5.0, 10.0] and norms["s"].tolist() == [1.0, 2.0] and norms["w"].dtype == torch.float64
    )
    assert [space.place(i) for i in (0, 3, 5, 6)] == ["w[0, 0]", "w[1, 1]", "b[1]", "s"]
    with pytest.raises(IndexError):
        space.place(7)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "no parameter to move"),
        ({"n": torch.zeros(2, dtype=torch.long)}, "'n' is torch.int64; expected a floating-point tensor"),
        ({"z": torch.zeros(2, dtype=torch.complex64)}, "torch.view_as_real"),
        ({"e": torch.zeros(0, 3)}, r"'e' is empty, shape \(0, 3\)"),
        ({"x": 3.0}, "'x' is float"),
        ({"lazy": nn.LazyLinear(3).weight}, "Run the model once on a batch"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_is_no_parameter_is_refused(tensors, words):
    with pytest.raises(FieldError, match=words):
        Space(tensors)


def test_wrong_points_and_dicts_are_told_with_what_was_expected():
    space = Space({"w": torch.zeros(2, 2), "b": torch.zeros(2)})
    with pytest.raises(FieldError, match=r"a point of 5 numbers, shape \(5,\), where the parameters are 6: w, b"):
        space.unflatten(torch.zeros(5))
    with pytest.raises(FieldError, match="no tensor 'b'"):
        space.flatten({"w": torch.zeros(2, 2)})
    with pytest.raises(FieldError, match=r"'w' has shape \(4,\); expected \(2, 2\)"):
        space.flatten({"w": torch.zeros(4), "b": torch.zeros(2)})


def test_modules_without_moving_parameters_are_refused():
    with pytest.raises(FieldError, match="none at all"):
        Space.of(nn.Tanh())
    with pytest.raises(FieldError, match=r"all 2 are frozen .*requires_grad_\(True\)"):
        Space.of(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(FieldError, match=r"no parameter 'wieght'; it has weight, bias"):
        Space.of(nn.Linear(2, 2), ["wieght"])
