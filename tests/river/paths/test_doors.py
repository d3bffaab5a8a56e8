"""What is given to a flow, by kind: every real number and every point is taken, everything else is refused for its true reason."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradientflow.errors import FieldError, UsageError
from gradientflow.river import LossField, LossTarget, Potential, VectorField, compare, descend, flow
from gradientflow.river.fields.audit import audit
from tests.river.fields.nets import F, data, mlp

D = torch.float64


def bowl(w: torch.Tensor) -> torch.Tensor:
    return 0.5 * (w**2).sum()


NUMBERS = [1, 1.0, np.int64(1), np.float32(1.0), np.array(1.0), torch.tensor(1), torch.tensor(1.0)]


@pytest.mark.parametrize("one", NUMBERS, ids=lambda x: f"{type(x).__module__}.{type(x).__name__}")
def test_a_real_number_is_one_whoever_made_it(one: Any):
    path = flow(bowl, one, start=[1.0], rtol=one * 1e-3, atol=one * 1e-6, certify=False)
    assert path.settings["t"] == 1.0 and float(path.final[0]) == pytest.approx(math.exp(-1), rel=1e-2)
    assert len(flow(bowl, one, start=[1.0], step=one / 4, method="dp54", certify=False)) == 5
    assert len(descend(bowl, torch.optim.SGD, one, lr=one / 4, start=[1.0])) == 5


@pytest.mark.parametrize("none", ["1", [1.0], torch.ones(2), torch.tensor(1j), None, 1j, np.ones(1)], ids=repr)
def test_what_is_no_number_is_no_time(none: Any):
    with pytest.raises(UsageError, match="t is the flow time to end at: expected a finite number above 0"):
        flow(bowl, none, start=[1.0])
    with pytest.raises(UsageError, match="t is the flow time"):
        descend(bowl, torch.optim.SGD, none, start=[1.0], lr=0.1)


POINTS = [
    3.0,
    [3],
    np.float64(3.0),
    np.array([3.0]),
    torch.tensor(3.0),
    torch.tensor([3]),
    np.array([3], dtype=np.float32),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda x: f"{type(x).__name__}")
def test_a_point_is_one_whoever_made_it(point: Any):
    path = flow(bowl, 1.0, start=point, certify=False)
    assert path.start.tolist() == [3.0]
    assert path.start.dtype == (torch.float32 if isinstance(point, torch.Tensor) and point.is_floating_point() else D)
    assert flow(bowl, 1.0, start=[1.9, -1.2], certify=False).start.tolist() == [1.9, -1.2]  # all digits are kept


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (torch.tensor([1 + 1j]), "complex; a flow moves real numbers"),
        ([1j, 2.0], "complex; a flow moves real numbers"),
        (np.array([1j]), "complex; a flow moves real numbers"),
        (torch.eye(2), r"has shape \(P,\), got \(2, 2\).*reshape.*starts="),
        (np.eye(2), r"got \(2, 2\)"),
        ([[1.0, 0.0], [0.0, 1.0]], r"got \(2, 2\)"),
        ("ab", "a list of numbers or a tensor"),
    ],
    ids=repr,
)
def test_what_is_no_point(point: Any, words: str):
    for begin in (lambda: flow(bowl, 1.0, start=point), lambda: Potential(bowl, start=point)):
        with pytest.raises(FieldError, match=words):
            begin()


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.ones(2, 2) * 1j, "complex"), ([1.0, 2.0], "a list of points; got a list of numbers"),
        ([[1.0], [1.0, 2.0]], "points of one length; got 1, 2"),
    ],
)  # fmt: skip
def test_what_are_no_points(points: Any, words: str):
    with pytest.raises(FieldError, match=words):
        flow(bowl, 1.0, starts=points)
    for good in ([[1.0], [2.0]], np.array([[1.0], [2.0]]), torch.tensor([[1.0], [2.0]])):
        assert len(flow(bowl, 1.0, starts=good, certify=False)) == 2


def test_a_function_of_more_than_the_point():
    with pytest.raises(FieldError, match=r"2 arguments \(t, z\).*does not depend on time: make t a component"):
        VectorField(lambda t, z: z, start=[1.0])
    with pytest.raises(FieldError, match=r"a loss of 2 arguments \(w, x\).*Bind the others"):
        flow(lambda w, x: w.sum(), 1.0, start=[1.0])
    assert flow(lambda w, x=1.0: x * bowl(w), 1.0, start=[1.0]).status.ok
    with pytest.raises(FieldError, match="PyTorch cannot differentiate through NumPy"):
        flow(lambda w: np.sum(w.detach().numpy()), 1.0, start=[1.0])
    with pytest.raises(FieldError, match="complex number; a loss is real"):
        flow(lambda w: (w * (1 + 1j)).sum(), 1.0, start=[1.0])


def test_data_of_numpy_are_data():
    x, y = data()
    net = mlp(3, 4, 2)
    told = [
        LossField(net, F.mse_loss, given)
        for given in ((x, y), (x.numpy(), y.numpy()), [(x.numpy(), y)], ((x.numpy(),), y.numpy()))
    ]
    assert all(torch.equal(f.value(f.start()[None]), told[0].value(told[0].start()[None])) for f in told)
    with pytest.raises(FieldError, match=r"failed on a batch.*float32"):  # nobody's numbers are converted unasked
        LossField(net, F.mse_loss, (x.numpy().astype(np.float32), y.numpy()))
    with pytest.raises(FieldError, match="NumPy array of object, which is no tensor"):
        LossField(net, F.mse_loss, (np.array([object()]), y))


def test_numbers_whose_squares_overflow_are_told_as_that():
    """‖∇L‖ has no finite value in float32 though every component has one; nothing is wrong with the loss's domain."""
    net, loss = nn.Linear(3, 2), lambda out, y: 1e30 * F.mse_loss(out, y)
    huge = LossField(net, loss, tuple(part.float() for part in data()))
    assert not any(remark.warning for remark in audit(huge))  # and not a division by zero
    with pytest.raises(FieldError, match=r"whose squares are beyond float32.*Divide the loss.*float64"):
        flow(huge, 1.0)
    with pytest.raises(FieldError, match="beyond float64"):
        flow(lambda w: 1e300 * bowl(w), 1e-300, start=[1.0, 2.0])
    assert flow(lambda w: 1e30 * bowl(w), 1e-30, start=[1.0, 2.0]).status.ok  # float64 has room for that


def test_a_path_without_length_proves_nothing():
    begins = Potential(bowl, start=[1.0, 2.0])
    path = flow(begins, 1.0, events=[LossTarget(100.0)])
    assert path.status.ok and float(path.times[-1]) == 0.0
    assert [c.ok for c in path.certificates] == [None] * 4 and "has no length" in str(path.certificates)
    assert (
        not path.certificates.ok
        and "certificates hold" not in repr(path)
        and "no certificate could be made" in repr(path)
    )
    for more in ({"events": [LossTarget(1.0)]}, {"certify": False}):  # one that has a length, and one nobody asked
        assert flow(begins, 1.0, **more).certificates.ok


def test_fields_that_answer_alike_are_compared_and_others_are_not():
    flowed = flow(Potential(bowl, start=[1.0, 1.0]), 1.0)

    def beside(loss: Any) -> Any:
        return compare(flowed, descend(Potential(loss, start=[1.0, 1.0]), torch.optim.SGD, 1.0, lr=0.1), points=4)

    assert beside(lambda w: 0.5 * (w * w).sum()).cost.gradients > 0  # made apart, and the same
    for other in (
        lambda w: (w[0] - 3) ** 4 + w[1] ** 2,
        lambda w: bowl(w) + 1,  # its paths are the same, its losses are not
        lambda w: bowl(w) * (1 + 1e-9),
        lambda w: bowl(w) + (w[0] - 1) ** 4 * 0.1,  # at the start they agree
    ):
        with pytest.raises(UsageError, match="ran on another field than the flow"):
            beside(other)


def test_comparing_tells_how_far_it_is():
    field = Potential(bowl, start=[1.0, 1.0])
    seen: list[float] = []
    paths = [descend(field, torch.optim.SGD, 1.0, lr=lr) for lr in (0.1, 0.2)]
    compare(flow(field, 1.0), *paths, progress=lambda moment: seen.append(moment.t / moment.t_end))
    assert seen == sorted(seen) and 0 < seen[0] < 0.5 < seen[-1] <= 1.0 and len(set(seen)) > 8


def test_a_singular_logarithm_is_not_blamed_on_round_off():
    for kind in (torch.float32, D):
        ended = flow(lambda w: torch.log(w[0]) + w[1] ** 2, 5.0, start=torch.tensor([1.0, 1.0], dtype=kind)).status
        assert ended.reason == "not-lipschitz" and "log" in ended.remedy + ended.text
        assert "0.5" in ended.text  # x' = −1/x ends at t = ½
    assert flow(lambda w: -torch.log(w[0]) + w[1] ** 2, 5.0, start=[1.0, 1.0]).status.reason == "reached"


def test_a_slow_clock_does_not_stand_still():
    asked: dict[str, Any] = {"start": [1.0], "max_gradients": 20}
    assert descend(bowl, torch.optim.SGD, 1.0, lr=1e-12, **asked).status.reason == "budget"
    for lr in (0.0, 1e-18):
        never = descend(bowl, torch.optim.SGD, 1.0, lr=lr, start=[1.0]).status
        assert never.reason == "stuck" and ("clock stands still" in never.text or "years" in never.text)

    def warm(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, k / 5))

    assert descend(bowl, torch.optim.SGD, 1.0, lr=0.1, start=[1.0], schedule=warm).status.reason == "reached"


def test_steps_without_time():
    def rests(steps: int) -> str:
        def late(optimizer: torch.optim.Optimizer) -> Any:
            return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: float(k >= steps))

        return descend(bowl, torch.optim.SGD, 1.0, lr=0.1, start=[1.0], schedule=late).status.reason

    assert rests(100) == "reached" and rests(101) == "stuck"


def bent(w: torch.Tensor) -> torch.Tensor:
    u = w[0] - 0.3 * torch.sin(3 * w[1])
    return 0.25 * (u**2 - 1) ** 2 + 2 * w[1] ** 2


SEPARATRIX = (
    0.07106399908661842  # the w₀ at w₁ = 1.7 from which the flow goes to neither side, by bisection at rtol 1e-12
)


def test_the_wrong_side_of_a_separatrix_never_passes_for_right():
    wrong = 0
    for off, rtol in itertools.product((1e-5, 1e-4, 1e-3, -1e-4), (1e-3, 1e-2)):
        path = flow(Potential(bent, start=[SEPARATRIX + off, 1.7]), 40.0, rtol=rtol)
        right = (float(path.final[0]) > 0) == (off > 0)
        assert right or not path.certificates.ok, (off, rtol)
        wrong += not right
    assert wrong >= 4  # else nothing was tried
    clear = flow(Potential(bent, start=[SEPARATRIX + 0.3, 1.7]), 40.0)
    assert float(clear.final[0]) > 0.9 and clear.certificates.ok  # control: far from it both are right
