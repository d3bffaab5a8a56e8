"""How much of the rate leaves a plane: nothing in an eigenplane of a quadratic, most of it in a random one."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor, nn

import gradientflow as gf
from gradientflow.records import Portrait
from gradientflow.river.fields.base import Potential
from gradientflow.river.portraits.plane import Plane
from tests.river.portraits.test_planes import P, bowl, rotation

BOX = (-1.0, 1.0, -1.0, 1.0)


def known(leak: list[float | None]) -> Tensor:
    return torch.tensor([x for x in leak if x is not None], dtype=torch.float64)


@pytest.mark.parametrize("pair", [(0, 1), (3, P - 1), (P - 2, P - 1)])
def test_nothing_leaks_from_an_eigenplane_of_a_rotated_quadratic(pair: tuple[int, int]) -> None:
    field, q, centre = bowl()
    drawn = gf.portrait(field, BOX, 17, plane=Plane.spanned(centre, *q.T[list(pair)]))
    assert len(drawn.leak) == 17**2
    assert drawn.leak.count(None) == 1  # the middle is the minimum: a rate of zero has no direction
    assert float(known(drawn.leak).max()) < 1e-12
    values = torch.tensor([pair[0] + 1.0, pair[1] + 1.0])
    k = 3 * 17 + 14  # y = −1 + 3/8, x = −1 + 14/8
    x, y = 0.75, -0.625
    assert (drawn.u[k], drawn.v[k]) == pytest.approx((-float(values[0]) * x, -float(values[1]) * y), abs=1e-12)
    assert drawn.loss is not None
    assert drawn.loss[k] == pytest.approx(0.5 * float(values[0] * x**2 + values[1] * y**2), abs=1e-12)


def test_much_leaks_from_a_random_plane_of_the_same_quadratic() -> None:
    field, _, centre = bowl()
    drawn = gf.portrait(field, BOX, 17, plane=Plane.spanned(centre, *rotation(9)[:2]))
    assert float(known(drawn.leak).min()) > 0.1
    assert drawn.middle_leak is not None and drawn.middle_leak > 0.3


def test_an_eigenplane_beside_the_minimum_leaks_by_what_pythagoras_says() -> None:
    field, q, centre = bowl()
    plane = Plane.spanned(centre + 0.5 * q[:, 0], q[:, 4], q[:, 8])  # beside: a rate of 0.5 at right angles to it
    drawn = gf.portrait(field, BOX, 9, plane=plane)
    at = torch.linspace(-1, 1, 9, dtype=torch.float64)
    y, x = torch.meshgrid(at, at, indexing="ij")
    true = 0.5 / (0.25 + (5 * x) ** 2 + (9 * y) ** 2).sqrt()
    torch.testing.assert_close(torch.tensor(drawn.leak, dtype=torch.float64), true.reshape(-1), atol=1e-12, rtol=0)


def test_the_sharpest_plane_of_a_quadratic_hardly_leaks_and_a_path_along_it_is_told_as_near() -> None:
    field, q, centre = bowl()
    path = gf.flow(field, 0.3, start=centre + q[:, -1] + 0.7 * q[:, -2], keep=gf.Keep(theta=True))
    drawn = gf.portrait(path, n=9, plane="sharpest")
    assert drawn.middle_leak is not None and drawn.middle_leak < 0.02
    (seen,) = drawn.shadows
    assert max(seen.off) < 0.05 * drawn.near
    wild = gf.portrait(gf.flow(field, 0.3, keep=gf.Keep(theta=True)), n=9, plane="sharpest").shadows[0]
    assert max(wild.off) > 1  # negative control


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leak_and_loss_are_those_of_the_network_itself_at_single_points(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(30, 4, dtype=dtype), torch.randint(0, 3, (30,))
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    field = gf.LossField(model, nn.functional.cross_entropy, (x, y), check=False)
    plane = gf.plane(field, "random")
    drawn = gf.portrait(field, (-2, 2, -1, 1), 5, plane=plane)
    close = 1e-5 if dtype == torch.float32 else 1e-12
    for k in (0, 7, 12, 24):
        theta = plane.lift(-2 + (k % 5) * 1.0, -1 + (k // 5) * 0.5)
        twin = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
        twin.load_state_dict(field.parameters(theta))
        loss = nn.functional.cross_entropy(twin(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = -torch.cat([p.grad.reshape(-1) for p in twin.parameters() if p.grad is not None]).double()
        along = plane.axes.double() @ rate
        rest = float((rate - plane.axes.double().T @ along).norm() / rate.norm())
        assert drawn.loss is not None
        assert drawn.loss[k] == pytest.approx(float(loss.detach()), rel=close)
        assert (drawn.u[k], drawn.v[k]) == pytest.approx(tuple(along.tolist()), abs=close * float(rate.norm()) * 4)
        assert drawn.leak[k] == pytest.approx(rest, abs=close * 4)


def test_two_parameters_have_no_leak() -> None:
    two = Potential(lambda w: (w * w).sum() + w[0] ** 4, start=[1.0, 1.0])
    assert gf.portrait(two, BOX, 9, structure=False).leak == []
    all_of_it = gf.portrait(two, BOX, 9, plane=Plane.spanned(torch.zeros(2).double(), *torch.eye(2).double()))
    assert float(known(all_of_it.leak).max()) < 1e-14  # as a plane it is the whole space


def test_a_rate_that_is_not_finite_is_none_in_the_record() -> None:
    log = Potential(lambda w: w[0].log() * w[1] + (w * w).sum(), start=[1.0, 1.0, 1.0])
    drawn = gf.portrait(log, BOX, 9, plane=Plane.spanned(torch.zeros(3).double(), *torch.eye(3).double()[:2]))
    assert drawn.loss is not None
    assert drawn.loss[0] is None and drawn.leak[0] is None and drawn.u[0] != drawn.u[0]
    assert drawn.loss[8] is not None and drawn.leak[8] is not None and drawn.u[8] == drawn.u[8]
    again = msgspec.json.decode(msgspec.json.encode(drawn), type=Portrait)
    assert again.u[0] is None and again.loss == drawn.loss and again.leak == drawn.leak and again.plane == drawn.plane
