"""Either side of the thresholds of planes and shadows."""

from __future__ import annotations

import pytest
import torch

import gradientflow as gf
from gradientflow.errors import UsageError
from gradientflow.river.portraits.plane import Plane
from gradientflow.river.portraits.shadow import near
from tests.river.portraits.test_planes import P, path_of, rotation

T = torch.linspace(-1, 1, 33, dtype=torch.float64)[:, None]


def test_directions_are_parallel_up_to_a_sine_of_1e_6() -> None:
    e = torch.eye(P, dtype=torch.float64)
    Plane.spanned(e[0], e[1], e[1] + 1.1e-6 * e[2])
    with pytest.raises(UsageError, match="parallel"):
        Plane.spanned(e[0], e[1], e[1] + 0.9e-6 * e[2])


@pytest.mark.parametrize(("ratio", "straight"), [(1.1e-13, False), (0.9e-13, True)])
def test_a_path_is_straight_where_its_second_variance_is_1e_13_of_the_first(ratio: float, straight: bool) -> None:
    q, bow = rotation(5), T**2 - (T**2).mean()
    by = (ratio * float(T.square().mean() / bow.square().mean())) ** 0.5
    plane = gf.plane(path_of(T * q[0] + by * bow * q[1]))
    assert (plane.names[1] == "a random direction") == bool(plane.notes) == straight


def test_a_path_stands_still_whose_variance_is_1e_24_of_its_square() -> None:
    q, scale = rotation(5), 9 * 1e-24 / float(T.square().mean())
    here = 3.0 * q[2]
    assert gf.plane(path_of(here + (1.1 * scale) ** 0.5 * T * q[0])).share is not None
    still = (here + (0.9 * scale) ** 0.5 * T * q[0], torch.ones(3, P).double(), 0.1 * torch.ones(7, P).double())
    for points in still:
        with pytest.raises(UsageError, match="stands still"):
            gf.plane(path_of(points))


def test_a_path_is_near_a_plane_up_to_a_twentieth_of_the_shorter_side() -> None:
    assert 0.09 < near((0.0, 4.0, 0.0, 2.0)) == near((0.0, 2.0, 0.0, 4.0)) < 0.11
