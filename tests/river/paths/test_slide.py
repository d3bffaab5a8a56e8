"""A path that slides along a kink is ended soon and by proof; one that crosses kinks, or is only stiff, is not."""

from __future__ import annotations

from pathlib import Path as File
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gradientflow.river import LossField, Potential, flow
from gradientflow.river.paths.motion import Piece
from gradientflow.river.paths.slide import Slide, jump, slides
from gradientflow.river.solvers import candidates

D = torch.float64
MAKER = torch.Generator().manual_seed(0)
X, Y = torch.randn(30, 8, generator=MAKER, dtype=D), torch.randn(30, generator=MAKER, dtype=D)
SLIDING = {
    "absolute values": (lambda w: w.abs().sum(), [1.0, 2.0]),
    "one kink": (lambda w: (w[0] - 1).abs() + 0.5 * w[1] ** 2, [3.0, 2.0]),
    "lasso": (lambda w: 0.5 * ((X @ w - Y) ** 2).mean() + 0.1 * w.abs().sum(), [1.0] * 8),
    "L1 fit": (lambda w: (X @ w - Y).abs().mean(), [1.0] * 8),
    "hinge by where": (lambda w: torch.where(w[0] > 0, w[0], -0.2 * w[0]) + 0.5 * (w[1] - 3) ** 2, [1.0, 0.0]),
}


@pytest.mark.parametrize("name", SLIDING)
@pytest.mark.parametrize("rtol", [1e-3, 1e-4])
def test_a_path_that_slides_ends_within_some_hundred_gradients_with_the_way_on(name: str, rtol: float):
    loss, start = SLIDING[name]
    path = flow(loss, 50.0, start=start, rtol=rtol)
    assert path.status.reason == "sliding" and not path.status.ok, str(path.status)
    assert path.cost.equivalents < 1500
    assert 0.5 < float(path.times[-1]) < 10.0  # it went to the kink
    assert "max_gradients=" in path.status.remedy and "sqrt(x² + ε²)" in path.status.remedy
    error = path.certificates.named("error")
    assert error.ok is None and "sliding" in error.text  # nothing is claimed of what was not solved


def rounded(w: Tensor) -> Tensor:
    return (w * w + 1e-2).sqrt().sum()


def crossing(w: Tensor) -> Tensor:
    """Falls through 40 kinks on its way: each makes the slope jump, none holds the path."""
    return (w[0] - torch.arange(40, dtype=D) / 10).clamp_min(0).sum() * 0.1 + w[0] + 0.5 * w[1] ** 2


def test_paths_that_do_not_slide_go_on():
    smooth = flow(rounded, 5.0, start=[1.0, 2.0])
    assert smooth.status.reason == "reached" and smooth.final.abs().max() < 0.1
    through = flow(crossing, 5.0, start=[4.0, 1.0], rtol=1e-4, certify=False)
    assert through.status.reason == "reached" and float(through.final[0]) < 0
    stiff = Potential(lambda w: 0.5 * (torch.tensor([1.0, 1e6], dtype=D) * w * w).sum(), start=[1.0, 1.0])
    assert (
        flow(stiff, 1.0, method="dp54", max_gradients=600, certify=False).status.reason == "budget"
    )  # slow, and smooth


def at(loss: Any, theta: list[float]) -> Any:
    """Where a drop is, as `slides` asks."""
    field = Potential(loss, start=theta)
    point = torch.tensor([theta], dtype=D)
    return SimpleNamespace(theta=point, here=field.evaluate(point), meter=field.evaluate)


def test_a_kink_is_told_from_a_bend_and_from_one_that_is_crossed():
    assert slides(at(lambda w: w.abs().sum(), [0.1]), 0, 0.01)
    root = at(lambda w: w.abs().sqrt().sum(), [0.01])  # infinitely steep at 0: no flow goes on there
    assert not slides(root, 0, 0.01) and (jump(root, 0, 0.01) or 0.0) > 100
    assert not slides(at(lambda w: w.abs().sum(), [3.0]), 0, 0.01)  # too far ahead
    assert not slides(at(lambda w: (w * w + 1e-8).sqrt().sum(), [0.1]), 0, 0.01)  # it turns, within a ten-thousandth
    assert not slides(at(lambda w: w.sum() + 0.5 * w.abs().sum(), [0.1]), 0, 0.01)  # downhill on both sides
    assert not slides(at(lambda w: -w.abs().sum(), [0.1]), 0, 0.01)  # a ridge: the flow leaves it


def watched(
    steps: int, h: float, longest: float, t_end: float, before: float = 0.0, afford: float | None = None,
    speed: float = 1.0, reason: str = "sliding",
) -> int:  # fmt: skip
    """How many drops end where the last `steps` went so far each, after one step of the longest length."""
    motion = at(lambda w: w.abs().sum(), [0.1])
    motion.t, motion.live, motion.t_end = torch.zeros(1, dtype=D), torch.ones(1, dtype=torch.bool), t_end
    watch = Slide(motion)
    watch.longest[0], watch.total[0], watch.calm[0] = longest, before, 1.0
    motion.meter = _Metered(Potential(lambda w: w.abs().sum()))
    found = 0
    row = torch.zeros(1, dtype=torch.int64)
    for _ in range(steps):
        begin, motion.t = motion.t, motion.t + h
        one = torch.ones(1, dtype=D)
        piece = Piece(row, begin, motion.t, motion.theta, motion.theta, one[None], one[None], None, None, speed * one, speed * one, one, one,
                      torch.tensor([3]), "rkmc2", True)  # fmt: skip
        found += sum(status.reason == reason for status in watch.ends(piece, motion, afford).values())
    return found


class _Metered:
    def __init__(self, field: Potential) -> None:
        self.field = field

    def __call__(self, theta: Tensor) -> Any:
        return self.field.evaluate(theta)


def test_step_over_longest():
    assert watched(24, 0.00124, 0.01, 10.0) == 1 and watched(24, 0.00126, 0.01, 10.0) == 0
    assert watched(23, 0.00124, 0.01, 10.0) == 0  # not looked at yet


def test_gradients_to_the_end():
    """3 gradients a step of 0.001: 2000 of them go 0.667 far."""
    assert watched(24, 0.001, 1.0, 0.024 + 0.67) == 1 and watched(24, 0.001, 1.0, 0.024 + 0.66) == 0


def test_gradients_to_the_end_over_spent():
    """3000 to the end; 72 of the window and what was spent before, times 8."""
    assert watched(24, 0.001, 1.0, 1.024, before=302.0) == 1 and watched(24, 0.001, 1.0, 1.024, before=304.0) == 0


def test_speed_over_speed_of_long_steps():
    """A path comes to a kink as fast as it goes; to a point where the rate is infinite ever faster."""
    for speed, kink in ((9.9, True), (10.1, False)):
        assert watched(24, 0.001, 1.0, 10.0, speed=speed) == kink
        assert watched(24, 0.001, 1.0, 10.0, speed=speed, reason="not-lipschitz") == (not kink)


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_a_logarithm_is_no_kink(dtype: torch.dtype):
    """Both sides of 0 lead to it, as those of |x| do, and the nearest that arithmetic tells apart are alike."""
    start = torch.tensor([1.0, 2.0], dtype=dtype)
    path = flow(lambda w: w[0].abs().log() + 0.5 * w[1] ** 2, 2.0, start=start)
    assert path.status.reason == "not-lipschitz" and "log(x + eps)" in path.status.remedy
    assert float(path.times[-1]) == pytest.approx(0.5, rel=1e-2)
    kink = flow(lambda w: w[0].abs() + 0.5 * w[1] ** 2, 20.0, start=start)
    assert kink.status.reason == "sliding"


def test_nor_is_the_logarithm_of_an_output():
    """Beyond its pole the loss is no number and its slope is one: it comes back from there as from a kink."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    x = torch.rand(100, 2)
    field = LossField(model, lambda out, y: torch.log(out.mean() + 0.5) + 0 * y.sum(), (x, x[:, :1]))
    path = flow(field, 2.0)
    assert path.status.reason == "not-lipschitz" and "log(x + eps)" in path.status.remedy, str(path.status)


def test_what_somebody_wants_to_afford_is_spent():
    """3000 to the end."""
    assert watched(24, 0.001, 1.0, 1.024, afford=2990.0) == 1 and watched(24, 0.001, 1.0, 1.024, afford=3010.0) == 0
    path = flow(SLIDING["absolute values"][0], 50.0, start=[1.0, 2.0], max_gradients=400, certify=False)
    assert path.status.reason == "sliding" and path.cost.equivalents < 400


def test_a_resumed_path_ends_as_one_that_was_never_interrupted(tmp_path: File):
    loss, start = SLIDING["lasso"]
    whole = flow(loss, 20.0, start=start, certify=False)
    part = flow(loss, 20.0, start=start, certify=False, checkpoint=tmp_path / "c", callback=lambda m: m.t > 1.5)
    assert part.status.reason == "cancelled"
    rest = flow(loss, 20.0, start=start, certify=False, checkpoint=tmp_path / "c", resume=True)
    assert rest.status.reason == "sliding" and torch.equal(rest.final, whole.final)
    assert float(rest.times[-1]) == float(whole.times[-1])


def test_drops_slide_each_for_itself():
    many = flow(SLIDING["absolute values"][0], 5.0, starts=[[1.0, 2.0], [2.0, 3.0]])
    assert [s.reason for s in many.statuses] == ["sliding", "sliding"] and float(many.ends[1]) > 1.9 > float(
        many.ends[0]
    )


def test_losses_with_kinks_are_solved_by_the_monotone_method():
    assert [s.name for s in candidates("auto", 1e-3, potential=True, kinked=True)] == ["rkmc2"]
    assert [s.name for s in candidates("auto", 1e-5, potential=True, kinked=True)] == ["rkmc2"]
    tight = candidates("auto", 0.99e-5, potential=True, kinked=True)  # its steps would be too many
    assert [s.name for s in tight] == [s.name for s in candidates("auto", 0.99e-5, potential=True)] != ["rkmc2"]
    assert [s.name for s in candidates("auto", 1e-3, potential=True)] == ["dp54", "rkc2"]
    assert [s.name for s in candidates("dp54", 1e-3, potential=True, kinked=True)] == ["dp54"]
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).double()
    field = LossField(model, torch.nn.functional.mse_loss, (X[:, :3], Y[:, None]))
    assert flow(field, 0.5, certify=False).method == "rkmc2"


def test_an_operation_without_second_derivatives_is_flowed_through():
    """multi_margin_loss cannot be differentiated twice by PyTorch; its products are differences then, and that is noted."""
    field = LossField(torch.nn.Linear(8, 3).double(), torch.nn.functional.multi_margin_loss, (X, torch.arange(30) % 3))
    path = flow(field, 0.2)
    assert path.status.ok and any("differences of gradients" in n for n in path.notes), path.notes
