"""Sampling a plane: coarse first, no point twice, sized to a time, ended when not wanted, counted."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import gradientflow as gf
from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields.base import Evaluation, Field, Linear, Potential
from gradientflow.river.portraits import sampling
from gradientflow.river.portraits.plane import Plane

BOX = (-1.0, 2.0, -1.0, 1.0)
SIZE = 5


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(sampling, "time", own)
    return own


class Slow(Field):
    """A bowl that notes every row it is asked for, and takes its time."""

    potential, size, name = True, SIZE, "slow"

    def __init__(self, clock: Clock | None = None, each: float = 0.0) -> None:
        self.clock, self.each = clock or Clock(), each
        self.asked: list[tuple[float, ...]] = []
        self.batches: list[int] = []

    def start(self) -> Tensor:
        return torch.ones(SIZE, dtype=torch.float64)

    def evaluate(self, theta: Tensor) -> Evaluation:
        self.asked += [tuple(round(x, 9) for x in row) for row in theta.tolist()]
        self.batches.append(len(theta))
        self.clock.now += self.each * len(theta)
        return Evaluation(-theta, 0.5 * theta.square().sum(1))

    def linearize(self, theta: Tensor) -> Linear:
        return lambda v: -v


def flat() -> Plane:
    return Plane.spanned(torch.zeros(SIZE).double(), *torch.eye(SIZE).double()[:2])


def test_every_grid_holds_the_one_before_and_no_point_is_asked_for_twice() -> None:
    field = Slow()
    drawn = list(gf.sketches(field, BOX, 97, plane=flat()))
    assert [d.n for d in drawn] == [9, 17, 33, 97]
    assert len(field.asked) == len(set(field.asked)) == 97**2
    assert [d.spent.gradients for d in drawn if d.spent] == [81, 289, 1089, 97**2]
    for coarse, fine in itertools.pairwise(drawn):
        by = (fine.n - 1) // (coarse.n - 1)
        a = torch.tensor(coarse.u).reshape(coarse.n, -1)
        assert a.equal(torch.tensor(fine.u).reshape(fine.n, -1)[::by, ::by])
    whole = gf.portrait(Slow(), BOX, 97, plane=flat())
    assert whole.u == drawn[-1].u and whole.loss == drawn[-1].loss


def test_nothing_is_evaluated_while_the_generator_is_not_asked() -> None:
    field = Slow()
    making = gf.sketches(field, BOX, 65, plane=flat())
    assert len(field.asked) == 0
    assert next(making).n == 9 and len(field.asked) == 81
    making.close()  # type: ignore[attr-defined]
    assert len(field.asked) == 81


@pytest.mark.parametrize(("each", "seconds"), [(1e-4, 0.4), (1e-3, 0.4), (1e-3, 10.0), (0.05, 60.0)])
def test_a_time_asked_for_is_kept_and_used(clock: Clock, each: float, seconds: float) -> None:
    field = Slow(clock, each)
    drawn = gf.portrait(field, BOX, plane=flat(), seconds=seconds)
    assert clock.now <= seconds
    assert 0.2 * seconds / each < drawn.n**2 == len(field.asked)
    assert max(field.batches[4:], default=0) * each <= 0.4  # so long it takes at most until it can be ended


def test_more_time_is_a_finer_picture_and_there_is_a_finest(clock: Clock) -> None:
    sides = [gf.portrait(Slow(clock, 5e-4), BOX, plane=flat(), seconds=s).n for s in (0.02, 0.2, 1.0, 1e6)]
    assert sides == sorted(set(sides)) and sides[-1] == sampling.FINEST


def test_a_field_that_is_too_slow_for_81_gradients_gets_nine_or_25(clock: Clock) -> None:
    assert [d.n for d in gf.sketches(Slow(clock, 0.02), BOX, plane=flat(), seconds=0.3)] == [3]
    assert [d.n for d in gf.sketches(Slow(clock, 0.02), BOX, plane=flat(), seconds=1.0)] == [5]


def test_a_grid_that_takes_far_longer_than_thought_is_given_up(clock: Clock) -> None:
    class Tiring(Slow):
        def evaluate(self, theta: Tensor) -> Evaluation:
            self.each = 1e-4 if len(self.asked) < 17**2 else 0.05
            return super().evaluate(theta)

    field = Tiring(clock)
    drawn = gf.portrait(field, BOX, plane=flat(), seconds=1.0)
    assert drawn.n == 17 and 289 < len(field.asked) <= 289 + sampling.GROWS * 208  # of 6561
    assert clock.now > sampling.LATE


def test_it_ends_between_batches_when_it_is_told_to_and_the_last_whole_grid_stays(clock: Clock) -> None:
    field = Slow(clock, 1e-2)
    seen: list[tuple[int, int]] = []

    def told(done: int, total: int) -> bool:
        seen.append((done, total))
        return len(field.asked) < 400

    drawn = gf.portrait(field, BOX, 129, plane=flat(), progress=told)
    assert drawn.n == 17 and 400 <= len(field.asked) < 440
    assert seen[:2] == [(9, 9), (16, 16)] and seen[-1][1] == 33**2 - 17**2
    assert (
        gf.portrait(Slow(), BOX, 129, plane=flat(), progress=lambda done, _: done < 56).n == 9
    )  # at the end of a grid
    with pytest.raises(UsageError, match="before there was anything"):
        gf.portrait(Slow(), BOX, 129, plane=flat(), progress=lambda *_: False)


def test_rows_of_a_batch_fit_into_the_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    field = Slow()
    gf.portrait(field, BOX, 33, plane=flat())
    assert max(field.batches) > 7
    monkeypatch.setattr(sampling, "ROOM", 7 * sampling.HELD * 8 * SIZE)
    field = Slow()
    gf.portrait(field, BOX, 33, plane=flat())
    assert max(field.batches) == 7


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.out.weight = self.into.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.into(x).mean(1))  # type: ignore[no-any-return]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads, self.norm, self.out = (
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.LayerNorm(4),
            nn.Linear(4, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(x + self.heads(x, x, x)[0]).mean(1))  # type: ignore[no-any-return]


class Branching(nn.Module):
    """Looks at its numbers, which no vectorised evaluation can."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x)
        return y if y.sum().item() > 0 else 2 * y


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh().double())  # type: ignore[no-any-return]


def networks() -> dict[str, gf.LossField]:
    torch.manual_seed(0)
    x, ce = torch.randn(20, 3), nn.functional.cross_entropy
    y = (x[:, 0] > 0).long()
    mlp = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    return {
        "tied": gf.LossField(Tied(), ce, (torch.randint(0, 10, (20, 4)), torch.randint(0, 10, (20,)))),
        "attention": gf.LossField(Attending(), ce, (torch.randn(20, 5, 4), y)),
        "branching": gf.LossField(Branching(), ce, (x, y)),
        "two dtypes": gf.LossField(Mixed(), ce, (x, y)),
        "batches": gf.LossField(mlp, ce, [(x[:7], y[:7]), (x[7:], y[7:])]),
        "decay": gf.LossField(mlp, ce, (x, y), microbatch=6, weight_decay=0.1),
        "function": gf.LossField(lambda p, x: x @ p["w"] + p["b"], ce, (x, y), params={"w": torch.randn(3, 2), "b": torch.zeros(2)}),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(networks()))
def test_no_gradient_leaks_from_its_own_plane_in_networks_of_every_kind(name: str) -> None:
    field = networks()[name]
    path = gf.flow(field, 1.0, keep=gf.Keep(at=[0.0, 0.5, 1.0], theta=True), certify=False)
    own, other = gf.ride(path, 0.5, "gradient", n=3), gf.ride(path, 0.5, gf.plane(field, "random"), n=3)
    assert own.leak[4] is not None and own.leak[4] < 1e-5
    assert other.leak[4] is not None and other.leak[4] > 0.3  # negative control
    assert own.loss is not None and other.loss is not None
    assert own.loss[4] == pytest.approx(other.loss[4], rel=1e-5)  # it is one and the same point
    assert any("one by one" in note for note in own.notes) == (name == "branching")


def test_points_in_double_precision_are_sampled_in_that_of_the_field() -> None:
    torch.manual_seed(0)
    field = gf.LossField(nn.Linear(3, 1), nn.functional.mse_loss, (torch.randn(9, 3), torch.randn(9, 1)))
    assert field.dtype == torch.float32
    points = torch.randn(3, 4, dtype=torch.float64)
    drawn = gf.portrait(field, n=3, plane=points)
    assert drawn.middle_leak is not None and drawn.plane is not None and len(drawn.plane.marks) == 3


def test_flows_that_carry_more_than_the_parameters_have_planes_too() -> None:
    torch.manual_seed(0)
    base = gf.LossField(
        nn.Linear(3, 1).double(), nn.functional.mse_loss, (torch.randn(9, 3).double(), torch.randn(9, 1).double())
    )
    heavy = gf.HeavyBall(base, 1.0)
    path = gf.flow(heavy, 2.0, keep=gf.Keep(theta=True))
    for kind in ("pca", "random"):
        drawn = gf.portrait(path, n=5, plane=kind)
        assert drawn.plane is not None and drawn.plane.size == 8 and len(drawn.shadows[0].points) == len(path)


def test_a_plane_that_is_not_of_this_field_is_refused_and_so_are_odd_sizes() -> None:
    other = Potential(lambda w: (w * w).sum(), start=[1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="3 parameters; the plane lies in a space of 5"):
        gf.portrait(other, BOX, 9, plane=flat())
    for n in (1, 0, -3, 2.5):
        with pytest.raises(UsageError, match="n is how many"):
            gf.portrait(Slow(), BOX, n, plane=flat())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seconds"):
        gf.portrait(Slow(), BOX, plane=flat(), seconds=0)
    with pytest.raises(FieldError, match="say which plane"):
        gf.portrait(Slow(), BOX)


def test_a_function_that_takes_one_point_at_a_time_is_sampled_as_finely_and_says_so() -> None:
    def loss(w: Tensor) -> Tensor:
        return (w * w).sum() if float(w.detach()[0]) > 0 else 2 * (w * w).sum()

    mine = Potential(loss, start=[1.0] * SIZE, name="mine")
    drawn = gf.portrait(mine, BOX, 9, plane=flat())
    assert drawn.n == 9 and "one point at a time" in drawn.notes[0]
    assert drawn.spent is not None and 81 <= drawn.spent.gradients <= 81 + 16
    assert not gf.portrait(Slow(), BOX, 9, plane=flat()).notes


def tower(kind: str) -> nn.Module:
    torch.manual_seed(0)
    middle: nn.Module = {
        "layer": nn.LayerNorm([3, 4, 4]), "batch": nn.BatchNorm2d(3), "group": nn.GroupNorm(3, 3), "none": nn.Identity(),
    }[kind]  # fmt: skip
    return nn.Sequential(nn.Conv2d(1, 3, 3), middle, nn.Tanh(), nn.Flatten(), nn.Linear(48, 2)).double()


@pytest.mark.parametrize("kind", ["layer", "batch", "group", "none"])
def test_networks_are_sampled_as_their_field_is_and_left_as_they_were(kind: str) -> None:
    x = torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = tower(kind).train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    field = gf.LossField(model, nn.functional.cross_entropy, (x, (x.mean((1, 2, 3)) > 0).long()))
    plane = gf.plane(field, "sharpest")
    drawn = gf.portrait(field, n=5, plane=plane)
    x0, x1, y0, y1 = drawn.box
    for k in (0, 12, 23):
        theta = plane.lift(x0 + (k % 5) * (x1 - x0) / 4, y0 + (k // 5) * (y1 - y0) / 4)
        there = field.evaluate(theta[None])
        assert drawn.loss is not None and there.value is not None
        assert drawn.loss[k] == pytest.approx(float(there.value[0]), rel=1e-9)
        assert drawn.leak[k] == pytest.approx(float(plane.split(there.rate)[1]), abs=1e-9)
    after = model.state_dict()
    assert all(t.equal(after[n]) for n, t in before.items())
    if kind == "batch":  # negative control: what is sampled is the field in train mode
        model.eval()
        calm = gf.portrait(
            gf.LossField(model, nn.functional.cross_entropy, (x, (x.mean((1, 2, 3)) > 0).long())),
            drawn.box,
            5,
            plane=plane,
        )
        assert calm.loss != drawn.loss
