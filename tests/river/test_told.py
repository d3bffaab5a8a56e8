"""What records say of paths and ensembles, and that nothing of torch is left in them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
import torch

from gradientflow.records import Flow, Status
from gradientflow.river.fields.base import Potential, VectorField
from gradientflow.river.paths.path import Certificate, Certificates, Cost, Ensemble, Path
from gradientflow.river.told import MOMENTS, finer, rest, steps, tell, track

TURN = VectorField(lambda z: torch.stack([-z[..., 1], z[..., 0]], -1), start=[1.0, 0.0], batched=True, name="turn")
NET = Potential(
    lambda w: 0.5 * (w[0] * w[1] - 1) ** 2,
    start=[1.9, -1.2],
    name="w1w2",
    conserved={"balance": lambda w: w[0] ** 2 - w[1] ** 2},
)


def path(theta: torch.Tensor, times: torch.Tensor, **more: Any) -> Path:
    n = len(times)
    nan = torch.full((n,), math.nan, dtype=torch.float64)
    made: dict[str, Any] = {
        "label": "flow", "kind": "flow", "method": "dp54", "times": times, "loss": None, "grad_norm": torch.ones(n).double(),
        "sharpness": nan, "lambda_min": nan, "step": torch.zeros(n).double(), "stages": torch.ones(n, dtype=torch.int64),
        "start": theta[0], "final": theta[-1], "cost": Cost(10, 3, 6, 0.5, 0.4, 2.0), "status": Status("reached", "t = 1."),
        "theta": theta,
    }  # fmt: skip
    return Path(**(made | more))


def circle(n: int, turn: float = 2 * math.pi) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.linspace(0, turn, n, dtype=torch.float64)
    return torch.stack([t.cos(), t.sin()], 1), t


def ensemble(final: torch.Tensor, speed: torch.Tensor, **more: Any) -> Ensemble:
    b = len(final)
    ends = torch.ones(b, dtype=torch.float64)
    start = torch.stack([torch.linspace(-2, 2, b), torch.linspace(2, -2, b)], 1).double()
    made: dict[str, Any] = {
        "method": "dp54", "times": torch.tensor([0.0, 1.0]).double(), "values": None, "rates": torch.zeros(2, b),
        "ends": ends, "loss": torch.arange(b).double(), "grad_norm": speed.double(), "start": start, "final": final.double(),
        "steps": torch.ones(b, dtype=torch.int64), "statuses": [Status("reached")] * b, "cost": Cost(),
    }  # fmt: skip
    return Ensemble(**(made | more))


def test_a_record_goes_through_json_and_back() -> None:
    theta, t = circle(9)
    checks = Certificates([Certificate("error", None, math.nan, 0.1, "not estimated")])
    told = tell(TURN, target="turn", t=6.28, stories=[(path(theta, t, certificates=checks), [], None)], about="round")
    again = msgspec.json.decode(msgspec.json.encode(told), type=Flow)
    assert again == told
    one = again.stories[0].flow
    assert one.sharpness == [None] * 9
    assert one.checks[0].value is None and one.checks[0].ok is None
    assert one.spent.equivalents == 10 + 6 + 2
    assert (again.size, again.dtype, again.potential, again.description) == (2, "float64", False, "round")


def test_a_path_in_the_plane_is_drawn_finer_than_its_moments() -> None:
    theta, t = circle(9)
    points = track(path(theta, t), TURN).points
    assert len(points) > 200
    assert max(abs(math.hypot(*p) - 1) for p in points) < 1e-3  # cubic Hermite: h⁴/384 at h = π/4
    chords = track(path(theta, t, kind="descent"), TURN).points
    assert len(chords) == 9  # negative control: an optimizer's steps are points, nothing is drawn between them
    bare = path(theta, t)
    bare.theta = None
    assert track(bare, TURN).points == [tuple(theta[0].tolist()), tuple(theta[-1].tolist())]


def test_steps_that_hardly_move_are_not_drawn_and_long_ones_all_are() -> None:
    zigzag = [(0.1 * k, (-1.0) ** k) for k in range(50)]
    rest = [(5.0, 1e-6 * k) for k in range(5000)]
    assert steps(zigzag) == list(range(50))
    kept = steps(zigzag + rest)
    assert kept[:50] == list(range(50)) and len(kept) < 60 and kept[-1] == 5049
    assert len(steps([*zigzag, (1e12, 0.0)])) == 51  # one step that diverges does not hide the others


def test_a_transient_at_the_end_of_a_long_step_does_not_bend_the_drawing_away() -> None:
    stiff = VectorField(lambda z: torch.stack([-z[..., 0], -1e4 * z[..., 1]], -1), start=[1.0, 1.0], batched=True)
    theta = torch.tensor([[1.0, 1.0], [0.9, 0.0]], dtype=torch.float64)
    line = finer(stiff, torch.tensor([0.0, 0.1], dtype=torch.float64), theta, 100)
    assert line[:, 1].min() > -1.0 and line[:, 0].max() <= 1.01
    chord_free = 0.1 * 1e4  # what the slope asked for: negative control
    assert chord_free > 100 * float((theta[1] - theta[0]).norm())


def test_long_paths_are_thinned_and_say_how_long_they_were() -> None:
    theta, t = circle(3 * MOMENTS)
    told = track(path(theta, t), TURN)
    assert len(told.times) == MOMENTS and told.moments == 3 * MOMENTS
    assert (told.times[0], told.times[-1]) == (0.0, pytest.approx(2 * math.pi))


def test_what_the_flow_keeps_is_told_at_both_ends() -> None:
    theta = torch.tensor([[1.9, -1.2], [1.6, 0.62]], dtype=torch.float64)
    told = track(path(theta, torch.tensor([0.0, 20.0]).double()), NET)
    assert told.conserved["balance"] == pytest.approx((2.17, 1.6**2 - 0.62**2))
    assert track(path(theta, torch.tensor([0.0, 20.0]).double()), TURN).conserved == {}


def test_drops_are_grouped_by_where_they_came_to_rest() -> None:
    final = torch.tensor([[1.0, 0.0], [1.001, 0.0], [-1.0, 0.0], [1.0, 0.001], [0.3, 0.3]])
    speed = torch.tensor([1e-6, 1e-7, 1e-6, 1e-6, 1.0])
    places, basin = rest(ensemble(final, speed), few=True)
    assert [p.count for p in places] == [3, 1]
    assert basin == [0, 0, 1, 0, -1]
    assert places[0].at == pytest.approx([1.001, 0.0], abs=1e-6)  # the calmest of them
    assert places[0].loss == 1.0
    apart, _ = rest(ensemble(torch.tensor([[1.0, 0.0], [1.1, 0.0], [-1.0, 0.0]]), torch.zeros(3)), few=True)
    assert len(apart) == 3


def test_drops_that_blew_up_are_in_no_place() -> None:
    final = torch.tensor([[1.0, 0.0], [math.inf, math.nan]])
    drops = ensemble(final, torch.tensor([0.0, math.nan]), statuses=[Status("reached"), Status("blow-up", "away")])
    told = tell(TURN, target="f", t=1.0, drops=drops).drops
    assert told is not None
    assert told.basin == [0, -1]
    assert told.reasons == {"reached": 1, "blow-up": 1}
    assert told.grad_norm == [0.0, None]


def test_trails_end_where_their_drop_ended() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    one = torch.stack([t.cos(), t.sin()], 1)
    two = torch.where((t > 0.55)[:, None], torch.full_like(one, math.nan), -one)
    theta = torch.stack([one, two], 1)
    final = torch.stack([one[-1], torch.tensor([-math.cos(0.55), -math.sin(0.55)]).double()])
    drops = ensemble(
        final, torch.ones(2), times=t, theta=theta, start=theta[0], ends=torch.tensor([1.0, 0.55]).double()
    )
    told = tell(TURN, target="turn", t=1.0, drops=drops).drops
    assert told is not None
    first, second = told.trails
    assert first[-1] == pytest.approx(tuple(one[-1].tolist()))
    assert second[-1] == pytest.approx(tuple(final[1].tolist()))
    assert all(abs(math.hypot(*p) - 1) < 1e-6 for p in first + second)
