"""Portraits of planes whose points at rest, valleys and separatrices are known."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

from gradientflow.errors import FieldError, UsageError
from gradientflow.records import Drops, Flow, Portrait, Status, Story, Track
from gradientflow.river.fields.base import Potential, VectorField
from gradientflow.river.portraits.portrait import portrait
from gradientflow.river.portraits.view import view

HIMMELBLAU = Potential(lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2, name="himmelblau")
SADDLE_NET = Potential(lambda w: 0.5 * (w[0] * w[1] - 1) ** 2, name="w1w2")
DOUBLE = Potential(lambda w: 0.25 * (w[0] ** 2 - 1) ** 2 + 0.5 * w[1] ** 2, name="double well")


def kinds(drawn: Portrait) -> Counter[str]:
    return Counter(p.kind for p in drawn.fixed)


@pytest.mark.parametrize("n", [48, 97, 192])
def test_himmelblau_has_four_minima_four_saddles_and_a_maximum(n: int) -> None:
    drawn = portrait(HIMMELBLAU, (-6, 6, -6, 6), n)
    assert kinds(drawn) == {"sink": 4, "saddle": 4, "source": 1}
    minima = sorted(p.at for p in drawn.fixed if p.kind == "sink")
    known = [(-3.7793102534, -3.2831859913), (-2.8051180870, 3.1313125183), (3.0, 2.0), (3.5844283403, -1.8481265270)]
    for found, true in zip(minima, known, strict=True):
        assert found == pytest.approx(true, abs=1e-8)
    assert all(p.loss == pytest.approx(0.0, abs=1e-12) for p in drawn.fixed if p.kind == "sink")


@pytest.mark.parametrize(
    ("a", "kind"),
    [
        ([[-1.0, 0.0], [0.0, -3.0]], "sink"),
        ([[2.0, 0.5], [0.0, 1.0]], "source"),
        ([[1.0, 0.0], [0.0, -1.0]], "saddle"),
        ([[-0.3, -2.0], [2.0, -0.3]], "spiral-sink"),
        ([[0.3, -2.0], [2.0, 0.3]], "spiral-source"),
        ([[0.0, -1.0], [4.0, 0.0]], "centre"),
    ],
)
def test_linear_fields_are_typed_by_their_eigenvalues(a: list[list[float]], kind: str) -> None:
    matrix, at = torch.tensor(a, dtype=torch.float64), torch.tensor([0.3, -0.7], dtype=torch.float64)
    field = VectorField(lambda z: matrix @ (z - at), start=[0.0, 0.0])
    (point,) = portrait(field, (-2, 2, -2, 2), 64).fixed
    assert point.kind == kind
    assert point.at == pytest.approx((0.3, -0.7), abs=1e-9)
    true = sorted((z.real.item(), z.imag.item()) for z in torch.linalg.eigvals(matrix))
    assert sorted(point.eigenvalues) == [pytest.approx(z, abs=1e-9) for z in true]


def test_a_valley_of_minima_is_followed_to_the_edges() -> None:
    drawn = portrait(SADDLE_NET, (-2.4, 2.4, -1.6, 1.6), 96)
    assert kinds(drawn) == {"saddle": 1}
    assert len(drawn.valleys) == 2
    for valley in drawn.valleys:
        assert all(x * y == pytest.approx(1.0, abs=1e-8) for x, y in valley)
        xs = sorted(abs(x) for x, _ in valley)
        assert xs[0] == pytest.approx(1 / 1.6, abs=0.05)
        assert xs[-1] == pytest.approx(2.4, abs=0.05)
        steps = [math.dist(a, b) for a, b in itertools.pairwise(valley)]
        assert max(steps) < 0.06


def test_a_ring_of_minima_is_closed_and_its_middle_is_a_source() -> None:
    ring = Potential(lambda w: 0.25 * ((w * w).sum() - 1) ** 2)
    drawn = portrait(ring, (-2, 2, -2, 2), 96)
    assert kinds(drawn) == {"source": 1}
    (valley,) = drawn.valleys
    assert all(math.hypot(*p) == pytest.approx(1.0, abs=1e-8) for p in valley)
    turned = sum(math.dist(a, b) for a, b in itertools.pairwise(valley))
    assert turned == pytest.approx(2 * math.pi, rel=0.02)
    upside_down = portrait(Potential(lambda w: -0.25 * ((w * w).sum() - 1) ** 2), (-2, 2, -2, 2), 96)
    assert len(upside_down.ridges) == 1 and not upside_down.valleys


def test_separatrices_are_the_stable_lines_of_saddles() -> None:
    for line in portrait(DOUBLE, (-2, 2, -1, 1), 64).separatrices:  # the basins of ±1 meet at x = 0
        assert all(abs(x) < 1e-6 for x, _ in line)
    lines = portrait(SADDLE_NET, (-2.4, 2.4, -1.6, 1.6), 64).separatrices
    assert len(lines) == 2
    for line in lines:
        assert all(x + y == pytest.approx(0.0, abs=1e-6) for x, y in line)
        assert max(abs(y) for _, y in line) > 1.6


def test_a_separatrix_divides_what_the_flow_does() -> None:
    drawn = portrait(HIMMELBLAU, (-6, 6, -6, 6), 96)
    line = max(drawn.separatrices, key=len)
    x, y = line[len(line) // 2]
    across = torch.tensor([line[len(line) // 2 + 1][1] - y, x - line[len(line) // 2 + 1][0]], dtype=torch.float64)
    across /= across.norm()

    def ends(off: float) -> torch.Tensor:
        at = torch.tensor([[x, y]], dtype=torch.float64) + off * across
        for _ in range(4000):
            at = at + 2e-3 * HIMMELBLAU.evaluate(at).rate
        return at[0]

    assert (ends(0.03) - ends(-0.03)).norm() > 1.0
    assert (ends(0.03) - ends(0.06)).norm() < 1e-6  # negative control: on one side all go to one place


def test_a_field_without_points_at_rest_has_none() -> None:
    drawn = portrait(VectorField(lambda z: torch.stack([z[1] * 0 + 1, z[0] * 0]), start=[0.0, 0.0]), (-1, 1, -1, 1), 32)
    assert not drawn.fixed and not drawn.valleys and not drawn.separatrices and drawn.loss is None


def test_samples_are_the_fields_own() -> None:
    drawn = portrait(SADDLE_NET, (-2, 2, -1, 1), 5, structure=False)
    assert (drawn.n, len(drawn.u), drawn.fixed) == (5, 25, [])
    assert drawn.loss is not None
    k = 1 * 5 + 3  # θ₂ = −0.5, θ₁ = 1
    assert (drawn.u[k], drawn.v[k], drawn.loss[k]) == pytest.approx((-0.75, 1.5, 1.125))


def test_a_field_that_takes_one_point_at_a_time_is_sampled_more_coarsely_and_says_so() -> None:
    def loss(w: torch.Tensor) -> torch.Tensor:
        return (w * w).sum() if float(w.detach()[0]) > 0 else 2 * (w * w).sum()

    drawn = portrait(Potential(loss, name="mine"), (-1, 1, -1, 1), 64)
    assert drawn.n == 56
    assert "one point at a time" in drawn.notes[0]
    assert not portrait(DOUBLE, (-1, 1, -1, 1), 56).notes


def test_undefined_regions_are_left_alone() -> None:
    log = Potential(lambda w: w[0] - w[0].log() + 0.5 * w[1] ** 2, name="log")
    drawn = portrait(log, (-1, 3, -1, 1), 64)
    assert [p.kind for p in drawn.fixed] == ["sink"]
    assert drawn.fixed[0].at == pytest.approx((1.0, 0.0), abs=1e-8)
    assert drawn.loss is not None and None in drawn.loss


@pytest.mark.parametrize("box", [None, (1, 0, 0, 1), (0, 1, 0, float("inf")), (0, 1), "ab"])
def test_a_box_that_is_none_is_refused(box: object) -> None:
    with pytest.raises(UsageError, match="box"):
        portrait(DOUBLE, box)  # type: ignore[arg-type]


def test_three_parameters_are_refused() -> None:
    with pytest.raises(FieldError, match="3 parameters"):
        portrait(Potential(lambda w: (w * w).sum(), start=[1.0, 2.0, 3.0]), (-1, 1, -1, 1))


# ── which part to draw ───────────────────────────────────────────────────────────────────────────────────────────────


def track(points: list[tuple[float, float]], kind: str = "flow") -> Track:
    n = len(points)
    return Track(
        "flow", kind, "dp54", [0.0] * n, None, [0.0] * n, [], [], [0.0] * n, [1] * n, Status("reached"), points=points
    )


def flow(points: list[tuple[float, float]], steps: list[tuple[float, float]] | None = None) -> Flow:
    story = Story(1, track(points), [track(steps, "descent")] if steps else [])
    return Flow("f", "f", 2, "float64", True, 1.0, stories=[story])


def test_the_fields_own_box_is_kept_where_everything_is_in_it() -> None:
    assert view(flow([(0.5, 0.5), (0.1, 0.2)], [(0.5, 0.5), (-0.4, 0.2)]), [(-2, 2), (-1, 1)]) == (-2, 2, -1, 1)


def test_a_solved_path_is_always_in_the_picture() -> None:
    x0, x1, y0, y1 = view(flow([(5.0, 0.0), (0.1, 0.2)]), [(-2, 2), (-1, 1)])
    assert x1 > 5.0 and (x0, y0, y1) == (-2, -1, 1)
    drops = Drops(
        2, "dp54", Status("reached"), {}, [1.0, 1.0], None, [0.0, 0.0], [1, 1], start=[(0.0, 0.0), (-9.0, 0.0)]
    )
    assert view(Flow("f", "f", 2, "float64", True, 1.0, drops=drops), [(-2, 2), (-1, 1)])[0] < -9.0


def test_a_step_just_outside_widens_the_box_and_one_that_diverges_does_not() -> None:
    near = view(flow([(0.0, 0.0)], [(2.5, 0.0)]), [(-2, 2), (-1, 1)])
    assert 2.5 < near[1] < 3.0
    assert view(flow([(0.0, 0.0)], [(1e9, 0.0), (0.0, float("nan"))]), [(-2, 2), (-1, 1)]) == (-2, 2, -1, 1)


def test_without_a_box_the_paths_make_one() -> None:
    x0, x1, y0, y1 = view(flow([(1.9, -1.2), (1.5, 0.0), (1.6, 0.6)]))
    assert x0 < 1.5 and x1 > 1.9 and y0 < -1.2 and y1 > 0.6
    x0, x1, y0, y1 = view(flow([(1.0, 1.0)]))
    assert x0 < 1.0 < x1 and y0 < 1.0 < y1
