"""Planes of many parameters: their geometry, the kinds of them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradientflow as gf
from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields.base import Potential, VectorField
from gradientflow.river.paths.path import Path
from gradientflow.river.portraits.plane import Plane

P = 12


def rotation(seed: int = 0, size: int = P) -> Tensor:
    """A random orthogonal matrix."""
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(noise)[0]


def bowl(seed: int = 0) -> tuple[Potential, Tensor, Tensor]:
    """½ (θ−c)ᵀ Q Λ Qᵀ (θ−c), with Q and Λ = 1, 2, …, P."""
    q, centre = rotation(seed), torch.arange(P, dtype=torch.float64)
    hessian = q @ torch.diag(torch.arange(1.0, P + 1, dtype=torch.float64)) @ q.T
    field = Potential(lambda w: 0.5 * (w - centre) @ hessian @ (w - centre), start=centre + q @ torch.ones(P).double())
    return field, q, centre


def path_of(points: Tensor) -> Path:
    """A path that kept these points."""
    path = gf.flow(lambda w: 0.5 * (w**2).sum(), 1.0, start=points[0], keep=gf.Keep(at=[0.0, 1.0], theta=True))
    n = len(points)
    path.theta, path.times, path.start, path.final = points, torch.linspace(0, 1, n).double(), points[0], points[-1]
    return path


def angle(a: Tensor, b: Tensor) -> float:
    """The sine of the largest angle between two planes' axes, (2, P)."""
    return float(torch.linalg.matrix_norm(a.double() - (a.double() @ b.double().T) @ b.double(), 2))


# ── geometry ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_axes_are_orthonormal_and_lift_undoes_project(dtype: torch.dtype, close: float) -> None:
    maker = torch.Generator().manual_seed(1)
    centre, first, second = (torch.randn(500, generator=maker, dtype=torch.float64).to(dtype) for _ in range(3))
    plane = Plane.spanned(centre, 40 * first, first + 1e-3 * second)
    assert plane.axes.dtype == dtype
    torch.testing.assert_close((plane.axes @ plane.axes.T).double(), torch.eye(2).double(), atol=close, rtol=0)
    theta = plane.lift(torch.tensor([1.0, -3.0]), torch.tensor([2.0, 0.5]))
    x, y, off = plane.project(theta)
    torch.testing.assert_close(
        torch.stack([x, y]), torch.tensor([[1.0, -3.0], [2.0, 0.5]]).double(), atol=30 * close, rtol=0
    )
    assert float(off.max()) < 30 * close
    out = torch.randn(500, generator=maker, dtype=torch.float64).to(dtype)
    out = out - (out @ plane.axes.T) @ plane.axes
    x, y, off = plane.project(theta + out)
    torch.testing.assert_close(off, out.double().norm().expand(2), rtol=1e-5, atol=0)
    torch.testing.assert_close(x, torch.tensor([1.0, -3.0]).double(), atol=30 * close, rtol=0)


def test_many_points_are_projected_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane.spanned(torch.zeros(P).double(), *rotation()[:2])
    points = torch.randn(100, P, dtype=torch.float64)
    whole = plane(points)
    monkeypatch.setattr("gradientflow.river.portraits.plane.ROOM", 8 * P * 7)
    torch.testing.assert_close(plane(points), whole, rtol=1e-13, atol=1e-13)


def test_what_spans_no_plane_is_refused() -> None:
    e = torch.eye(P, dtype=torch.float64)
    with pytest.raises(UsageError, match="parallel"):
        Plane.spanned(e[0], e[1], -3 * e[1])
    with pytest.raises(UsageError, match="length 0"):
        Plane.spanned(e[0], e[1], 0 * e[2])
    with pytest.raises(UsageError, match=r"shape \(P,\)"):
        Plane.spanned(e[0], e[1], e[2][:5])


def test_a_plane_through_three_points_holds_them() -> None:
    points = torch.randn(3, P, dtype=torch.float64)
    plane = gf.plane(bowl()[0], points)
    x, y, off = plane.project(points)
    assert float(off.max()) < 1e-12 and float(x[0].abs() + y[0].abs() + y[1].abs()) < 1e-12
    assert list(plane.marks.values()) == list(zip(x.tolist(), y.tolist(), strict=True))
    assert gf.plane(bowl()[0], tuple(points)).key == plane.key
    with pytest.raises(UsageError, match="parallel"):
        Plane.through(points[0], points[1], 2 * points[1] - points[0])
    with pytest.raises(UsageError, match="2 points"):
        gf.plane(bowl()[0], points[:2])


def test_a_plane_moved_to_a_point_passes_through_it_and_keeps_coordinates() -> None:
    plane = Plane.spanned(torch.zeros(P).double(), *rotation()[:2])
    theta, other = torch.randn(2, P, dtype=torch.float64)
    moved = plane.moved(theta)
    assert float(moved.project(theta)[2]) < 1e-12 < float(plane.project(theta)[2])
    for k in (0, 1):
        assert float(moved.project(other)[k]) == pytest.approx(float(plane.project(other)[k]), abs=1e-12)


def test_two_planes_have_two_keys_and_one_plane_one() -> None:
    field = bowl()[0]
    keys = {gf.plane(field, "random", seed=s).key for s in (0, 1, 0)}
    assert len(keys) == 2


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_principal_directions_and_shares_are_those_of_the_singular_values() -> None:
    maker = torch.Generator().manual_seed(3)
    for n in (5, 40):  # fewer points than parameters, and more
        scales = torch.tensor([5.0, 2.0, 0.5] + [0.1] * (P - 3)).double()
        points = torch.randn(n, P, generator=maker, dtype=torch.float64) * scales @ rotation(2).T + 7
        plane = gf.plane(path_of(points))
        _, sizes, rows = torch.linalg.svd(points - points.mean(0), full_matrices=False)
        shares = (sizes**2 / (sizes**2).sum()).tolist()
        assert plane.share == pytest.approx(tuple(shares[:2]), rel=1e-9)
        assert angle(plane.axes, rows[:2]) < 1e-9
        assert angle(plane.axes, rows[1:3]) > 0.5  # negative control
        assert f"{100 * shares[0]:.0f} %" in plane.names[0]
        assert float(plane.project(points[-1])[2]) < 1e-12  # it passes through the end
        assert float(plane.project(points[0])[0]) <= 0  # and the path comes from the left


def test_a_path_in_a_plane_is_explained_wholly_and_a_wild_one_is_not() -> None:
    q, t = rotation(4), torch.linspace(0, 3, 50, dtype=torch.float64)
    flat = torch.stack([t.cos(), t.sin()], 1) @ q[:, :2].T
    share = gf.plane(path_of(flat)).share
    assert share is not None and sum(share) == pytest.approx(1, abs=1e-12)
    share = gf.plane(path_of(torch.randn(50, P, dtype=torch.float64))).share
    assert share is not None and sum(share) < 0.6


def test_several_paths_count_alike_however_many_points_they_kept() -> None:
    q, t = rotation(6), torch.linspace(0, 1, 400, dtype=torch.float64)[:, None]
    field = bowl()[0]
    long, short = path_of(t * q[0]), path_of(t[::40] * q[1])
    plane = gf.plane(field, "pca", along=[long, short])
    assert angle(plane.axes, q[:2]) < 1e-6
    assert plane.share is not None and plane.share[1] > 0.15
    assert gf.plane(long, along=short).notes  # of a path alone: it is straight


def test_the_sharpest_plane_is_that_of_the_leading_eigenvectors() -> None:
    field, q, centre = bowl()
    plane = gf.plane(field, "sharpest", at=centre + 1)
    assert plane.curvature == pytest.approx((P, P - 1), rel=1e-3)
    assert angle(plane.axes, q.T[-2:]) < 0.05
    assert angle(plane.axes, q.T[:2]) > 0.9  # negative control
    assert plane.cost.equivalents > 0


def test_the_plane_of_the_gradient_holds_it_and_points_downhill() -> None:
    field, q, centre = bowl()
    at = centre + torch.randn(P, dtype=torch.float64)
    plane = gf.plane(field, "gradient", at=at)
    along, leak = plane.split(field.evaluate(at[None]).rate)
    assert float(leak) < 1e-12 and float(along[0, 0]) > 0 and abs(float(along[0, 1])) < 1e-12
    top = q[:, -1]
    assert float((top - (top @ plane.axes.T) @ plane.axes).norm()) < 0.05
    with pytest.raises(UsageError, match="gradient is zero"):
        gf.plane(field, "gradient", at=centre)


def test_where_a_plane_is_taken() -> None:
    field = bowl()[0]
    path = gf.flow(field, 1.0, keep=gf.Keep(at=[0.0, 0.3, 1.0], theta=True))
    assert path.theta is not None
    assert gf.plane(path, "gradient").centre.equal(path.start)
    assert gf.plane(path, "sharpest").centre.equal(path.final)
    assert gf.plane(path, "sharpest", at=0.31).centre.equal(path.theta[1])
    assert gf.plane(field, "sharpest").centre.equal(path.start)
    with pytest.raises(UsageError, match="pass the path"):
        gf.plane(field, "sharpest", at=0.3)
    with pytest.raises(FieldError, match="at=θ"):
        gf.plane(Potential(lambda w: (w * w).sum()), "random")
    blind = gf.flow(field, 1.0)
    assert gf.plane(blind, "sharpest", at=1.0).centre.equal(blind.final)  # the ends are known in any case
    with pytest.raises(UsageError, match="kept no points"):
        gf.plane(blind, "sharpest", at=0.3)


class Net(nn.Module):
    """Convolution, normalisation, a matrix: all that filter normalisation has to tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.LayerNorm(12)
        self.last = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.norm(self.conv(x).relu().flatten(1)))


def net() -> gf.LossField:
    torch.manual_seed(0)
    x = torch.randn(8, 1, 4, 4, dtype=torch.float64)
    return gf.LossField(Net().double(), nn.functional.cross_entropy, (x, (x.mean((1, 2, 3)) > 0).long()))


def test_random_directions_have_the_norm_of_each_filter_and_leave_vectors_alone() -> None:
    field = net()
    plane = gf.plane(field, "random", seed=2)
    own = field.parameters(field.start())
    for axis, close in ((plane.axes[0], 1e-12), (plane.axes[1], 0.2)):  # the second was made orthogonal to the first
        drawn = field.parameters(plane.reach * axis)
        for name, part in own.items():
            if part.dim() < 2:
                assert float(drawn[name].abs().max()) == 0, name
            else:
                norms = (drawn[name].flatten(1).norm(dim=1), part.flatten(1).norm(dim=1))
                torch.testing.assert_close(norms[0], norms[1], rtol=close, atol=0)
    assert plane.key == gf.plane(field, "random", seed=2).key != gf.plane(field, "random", seed=3).key


def test_random_directions_of_a_plain_function_are_one_filter() -> None:
    plane = gf.plane(bowl()[0], "random")
    assert plane.reach == pytest.approx(float(bowl()[0].start().norm()))  # type: ignore[union-attr]


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_plane_is_refused_with_those_there_are() -> None:
    field = bowl()[0]
    with pytest.raises(UsageError, match="'pca', 'sharpest', 'gradient', 'random'"):
        gf.plane(field, "flattest")
    with pytest.raises(UsageError, match="there is no path"):
        gf.plane(field)
    with pytest.raises(UsageError, match=r"Keep\(theta=True\)"):
        gf.plane(gf.flow(field, 0.1))
    turn = VectorField(lambda z: torch.stack([-z[1], z[0], -z[2]]), start=[1.0, 0.0, 1.0])
    with pytest.raises(UsageError, match="has no loss"):
        gf.plane(turn, "sharpest")
    assert gf.plane(turn, "random").size == 3
    path = gf.flow(field, 0.1, keep=gf.Keep(theta=True))
    path.field = None
    with pytest.raises(UsageError, match="read from a file"):
        gf.plane(path, "random")
    assert gf.plane(path).size == P  # the points are all it needs
