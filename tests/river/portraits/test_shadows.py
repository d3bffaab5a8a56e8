"""Shadows of paths in a plane, the box that shows them, and the plane that moves with the drop."""

from __future__ import annotations

from pathlib import Path as File

import pytest
import torch

import gradientflow as gf
from gradientflow.errors import UsageError
from gradientflow.records import Shadow
from gradientflow.report.plane_page import runs
from gradientflow.river.portraits.box import MARGIN, SLIMMEST, framed
from gradientflow.river.portraits.plane import Plane
from gradientflow.river.portraits.shadow import near
from tests.river.portraits.test_planes import P, bowl, path_of, rotation


def test_a_shadow_kept_while_solving_is_that_of_the_points() -> None:
    field, q, centre = bowl()
    plane = Plane.spanned(centre, q[:, 0], q[:, 5])
    with_points = gf.flow(field, 1.0, keep=gf.Keep(theta=True))
    with_shadow = gf.flow(field, 1.0, keep=gf.Keep(plane=plane))
    assert with_shadow.theta is None and with_shadow.kept[plane.key].shape == (len(with_shadow), 3)
    a, b = gf.shadow(with_points, plane), gf.shadow(with_shadow, plane)
    assert len(a.points) == len(with_points) > 5
    assert a.times == b.times and a.off == pytest.approx(b.off, abs=1e-12)
    flat = [pytest.approx(p, abs=1e-12) for p in b.points]
    assert a.points == flat
    with pytest.raises(UsageError, match="in another plane"):
        gf.shadow(with_shadow, Plane.spanned(centre, q[:, 1], q[:, 5]))
    with pytest.raises(UsageError, match=r"Keep\(plane=plane\)"):
        gf.shadow(gf.flow(field, 1.0), plane)


def test_a_descents_shadow_is_kept_too_and_survives_a_file(tmp_path: File) -> None:
    field, q, centre = bowl()
    plane = Plane.spanned(centre, q[:, 0], q[:, 11])
    path = gf.descend(field, torch.optim.SGD, 1.0, lr=0.1, keep=gf.Keep(plane=plane))
    seen = gf.shadow(path, plane)
    assert (seen.kind, len(seen.points)) == ("descent", 11)
    for k, (x, y) in enumerate(seen.points):  # (1 − ηλ)^k along each eigenvector
        assert (x, y) == pytest.approx((0.9**k, (1 - 1.2) ** k), abs=1e-9)
    path.save(tmp_path / "a.npz")
    assert gf.shadow(gf.Path.load(tmp_path / "a.npz"), plane) == seen


def test_a_plane_is_for_single_paths_and_a_resumed_one_keeps_on_in_its_own(tmp_path: File) -> None:
    field, q, centre = bowl()
    plane, other = (Plane.spanned(centre, q[:, 0], q[:, k]) for k in (5, 6))
    with pytest.raises(UsageError, match="single paths"):
        gf.flow(field, 1.0, starts=torch.zeros(2, P).double(), keep=gf.Keep(plane=plane))
    file = tmp_path / "a.ckpt"
    gf.flow(field, 1.0, max_gradients=30, checkpoint=file, keep=gf.Keep(plane=plane))
    whole = gf.flow(field, 1.0, keep=gf.Keep(plane=plane))
    with pytest.raises(UsageError):
        gf.flow(field, 1.0, checkpoint=file, resume=True, keep=gf.Keep(plane=other))
    again = gf.flow(field, 1.0, checkpoint=file, resume=True, keep=gf.Keep(plane=plane))
    assert again.kept[plane.key].equal(whole.kept[plane.key])


def test_near_and_far_pieces_of_a_shadow() -> None:
    points = [(float(k), 0.0) for k in range(6)]
    seen = Shadow("flow", "flow", [0.0] * 6, points, [0.0, 0.1, 0.11, 0.5, 0.1, 0.0])
    assert [(close, [p[0] for p in line]) for close, line in runs(seen, 0.1)] == [
        (True, [0, 1]), (False, [1, 2, 3, 4]), (True, [4, 5]),
    ]  # fmt: skip
    assert near((0.0, 4.0, 0.0, 2.0)) == pytest.approx(0.1)  # a twentieth
    assert runs(seen, 0.6) == [(True, points)] and runs(seen, -1.0) == [(False, points)]


def test_the_box_shows_the_flow_and_a_descent_that_strays_little_and_is_not_slim() -> None:
    x0, x1, y0, y1 = framed([(0.0, 0.0), (4.0, 0.1)])
    assert x0 == pytest.approx(-4 * MARGIN) and x1 == pytest.approx(4 + 4 * MARGIN)
    assert (y1 - y0) / (x1 - x0) == pytest.approx(SLIMMEST)
    assert framed([(0.0, 0.0), (4.0, 4.0)], [(5.9, 0.0)])[1] > 5.9
    assert framed([(0.0, 0.0), (4.0, 4.0)], [(6.1, 0.0)])[1] < 6  # more than half a side away
    assert framed([(0.0, 0.0)], reach=2.0) == pytest.approx((-2.48, 2.48, -2.48, 2.48))
    assert framed([(1.0, 1.0)])[0] < 1 < framed([(1.0, 1.0)])[1]


def test_a_portrait_of_a_path_shows_it_whole_with_descents_beside_it() -> None:
    field, _, _ = bowl()
    path = gf.flow(field, 2.0, keep=gf.Keep(theta=True))
    steps = gf.descend(field, torch.optim.SGD, 2.0, lr=0.2, keep=gf.Keep(theta=True))  # diverges: 2/λ = 0.167
    drawn = gf.portrait(path, n=9, along=steps)
    assert drawn.plane is not None and drawn.plane.kind == "pca" and drawn.plane.share is not None
    assert [s.kind for s in drawn.shadows] == ["flow", "descent"]
    x0, x1, y0, y1 = drawn.box
    assert all(x0 < x < x1 and y0 < y < y1 for x, y in drawn.shadows[0].points)
    assert not all(x0 < x < x1 and y0 < y < y1 for x, y in drawn.shadows[1].points)
    span = max(max(p) for p in drawn.shadows[0].points) - min(min(p) for p in drawn.shadows[0].points)
    assert x1 - x0 < 3 * span


# ── the plane moves with the drop ────────────────────────────────────────────────────────────────────────────────────


def test_riding_the_water_is_true_where_the_drop_is() -> None:
    field, _, _ = bowl()
    path = gf.flow(field, 1.0, keep=gf.Keep(at=[0.0, 0.05, 0.2, 1.0], theta=True))
    plane = gf.plane(path)
    assert path.theta is not None
    for t, k in ((0.0, 0), (0.06, 1), (1.0, 3)):
        drawn = gf.ride(path, t, plane, n=5)
        there = field.evaluate(path.theta[k][None])
        along, leak = plane.split(there.rate)
        middle = 12
        assert drawn.loss is not None and there.value is not None and drawn.plane is not None
        assert drawn.loss[middle] == pytest.approx(float(there.value[0]), rel=1e-9)
        assert (drawn.u[middle], drawn.v[middle]) == pytest.approx(tuple(along[0].tolist()), abs=1e-9)
        assert drawn.leak[middle] == pytest.approx(float(leak), abs=1e-9)
        (seen,) = drawn.shadows
        assert seen.off[k] < 1e-9
        assert seen.points[k] == pytest.approx(drawn.plane.marks["here"], abs=1e-9)
        assert seen.points == [pytest.approx(p, abs=1e-9) for p in gf.shadow(path, plane).points]
        assert drawn.spent is not None and drawn.spent.gradients == 25
    still = gf.portrait(path, n=5, plane=plane)  # negative control: the plane that stays is not at the drop
    assert max(still.shadows[0].off[:3]) > 0.02


def test_riding_the_plane_of_the_gradient_turns_with_it() -> None:
    field, q, centre = bowl()
    path = gf.flow(field, 0.5, keep=gf.Keep(at=[0.0, 0.25, 0.5], theta=True))
    for t in (0.0, 0.25, 0.5):
        drawn = gf.ride(path, t, "gradient", n=3)
        assert drawn.leak[4] == pytest.approx(0, abs=1e-9) and drawn.plane is not None
        assert drawn.plane.marks == {"here": (0.0, 0.0)} and drawn.u[4] > 0  # type: ignore[operator]
    with pytest.raises(UsageError, match="kept no points"):
        gf.ride(gf.flow(field, 0.5), 0.2, Plane.spanned(centre, q[:, 0], q[:, 1]))


def test_a_path_that_runs_away_does_not_spoil_the_box() -> None:
    q = rotation(3)
    points = torch.stack([k * q[0] + (k % 2) * q[1] for k in range(40)] + [1e9 * q[0]]).double()
    drawn = gf.portrait(path_of(points), n=3, plane=Plane.spanned(torch.zeros(P).double(), q[0], q[1]))
    assert drawn.box[1] < 1000
