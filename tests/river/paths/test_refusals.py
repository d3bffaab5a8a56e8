"""What is refused, and in which words: what is wrong, where, what was expected, what was got, and the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.river import Keep, LossTarget, Potential, VectorField, flow
from gradientflow.river.fields.base import Evaluation


def bowl(w: Tensor) -> Tensor:
    return 0.5 * (w**2).sum()


class Liar(Potential):
    """A bowl of three parameters whose evaluation is bent by `lie`."""

    def __init__(self, lie: Any) -> None:
        super().__init__(bowl, start=[1.0, 2.0, 3.0], name="liar")
        self._lie = lie

    def evaluate(self, theta: Tensor) -> Evaluation:
        honest = super().evaluate(theta)
        assert honest.value is not None
        return Evaluation(*self._lie(honest.rate, honest.value))


LIES = {
    "a component short": lambda r, v: (r[:, :-1], v),
    "a component long": lambda r, v: (torch.cat([r, r[:, :1]], 1), v),
    "two rows for one": lambda r, v: (torch.cat([r, r]), torch.cat([v, v])),
    "a loss with two axes": lambda r, v: (r, v[:, None]),
    "a loss without rows": lambda r, v: (r, v.sum()),
    "a rate without rows": lambda r, v: (r[0], v),
    "another dtype": lambda r, v: (r.float(), v),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("many", [False, True])
def test_a_field_that_lies_about_its_size(lie: Any, many: bool):
    kind: dict[str, Any] = {"starts": torch.ones(2, 3, dtype=torch.float64)} if many else {}
    with pytest.raises(FieldError, match=r"(?s)liar.*expected"):
        flow(Liar(lie), 1.0, **kind)
    assert flow(Liar(lambda r, v: (r, v)), 1.0, **kind).status.reason == "reached"  # the truth passes


def test_nan_at_the_start():
    for start in ([float("nan"), 1.0], [float("inf"), 1.0]):
        with pytest.raises(FieldError, match="1 components that are not finite"):
            flow(bowl, 1.0, start=start)
    with pytest.raises(FieldError, match="not finite"):
        flow(bowl, 1.0, starts=torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]))


def test_a_start_outside_the_domain():
    for loss in (lambda w: torch.log(w).sum(), lambda w: torch.sqrt(w).sum(), lambda w: (1 / w).sum()):
        with pytest.raises(FieldError, match=r"(?s)at the start.*expected.*start="):
            flow(loss, 1.0, start=[0.0, 1.0] if loss(torch.zeros(1)).isinf() else [-1.0, 1.0])
    with pytest.raises(FieldError, match=r"drop 1; 2 of 3 drops"):
        flow(lambda w: torch.log(w).sum(), 1.0, starts=torch.tensor([[1.0], [-1.0], [-2.0]]))
    assert flow(lambda w: -torch.log(w).sum(), 1.0, start=[1.0]).status.reason == "reached"


def test_the_wrong_number_of_parameters():
    with pytest.raises(FieldError, match=r"has 2 parameters; the starting point has 3.*\(2,\)"):
        flow(Potential(bowl, start=[1.0, 2.0]), 1.0, start=[1.0, 2.0, 3.0])
    with pytest.raises(FieldError, match=r"drops, parameters"):
        flow(bowl, 1.0, starts=torch.ones(3))
    with pytest.raises(FieldError, match="no starting point"):
        flow(bowl, 1.0)


def test_something_that_is_no_field():
    with pytest.raises(FieldError, match="LossField"):
        flow(torch.nn.Linear(2, 2), 1.0, start=[1.0])
    with pytest.raises(FieldError, match=r"VectorField"):
        flow(3, 1.0, start=[1.0])  # type: ignore[call-overload]
    with pytest.raises(FieldError, match=r"shape \(2,\).*expected a scalar"):
        flow(lambda w: w * w, 1.0, start=[1.0, 2.0])
    with pytest.raises(FieldError, match="float"):
        flow(lambda w: 1.0, 1.0, start=[1.0])  # type: ignore[arg-type,return-value]
    with pytest.raises(FieldError, match=r"gf\.Potential"):
        flow(VectorField(lambda z: z.sum()), 1.0, start=[1.0, 2.0])


@pytest.mark.parametrize("t", [0.0, -1.0, float("inf"), float("nan"), "3", None])
def test_a_time_that_is_none(t: Any):
    with pytest.raises(UsageError, match="flow time"):
        flow(bowl, t, start=[1.0])


@pytest.mark.parametrize(
    "wrong",
    [{"rtol": 0.0}, {"rtol": -1e-3}, {"rtol": 1.0}, {"rtol": float("nan")}, {"atol": -1.0}, {"atol": float("nan")}],
)
def test_tolerances_out_of_range(wrong: dict[str, float]):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        flow(bowl, 1.0, start=[1.0], **wrong)


@pytest.mark.parametrize("rtol", [0.03, 0.05, 0.1, 0.5])
def test_rough_tolerances_are_taken(rtol: float):
    path = flow(bowl, 1.0, start=[1.0], rtol=rtol)
    assert path.status.reason == "reached"


def test_other_arguments():
    with pytest.raises(UsageError, match=r"rkc2.*Did you mean 'rkc2'"):
        flow(bowl, 1.0, start=[1.0], method="rkc")
    with pytest.raises(UsageError, match="step"):
        flow(bowl, 1.0, start=[1.0], step=0.0)
    with pytest.raises(UsageError, match="not both"):
        flow(bowl, 1.0, start=[1.0], starts=torch.ones(1, 1))  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="LossTarget needs a field with a loss"):
        flow(VectorField(lambda z: -z), 1.0, start=[1.0], events=[LossTarget(0.1)])
    with pytest.raises(UsageError, match="an event is"):
        flow(bowl, 1.0, start=[1.0], events=[3])  # type: ignore[list-item]
    for times in ([1.0, 0.5], [0.0, 0.0], [float("nan")], []):
        with pytest.raises(UsageError, match="ascending"):
            Keep(at=times)
    with pytest.raises(UsageError, match="every"):
        Keep(every=0)


def test_times_to_keep_that_the_path_does_not_have():
    for times in ([-1.0, 0.5], [0.5, 2.0]):
        with pytest.raises(UsageError, match=r"Keep\(at=…\)"):
            flow(bowl, 1.0, start=[1.0], keep=Keep(at=times))
    assert flow(bowl, 1.0, start=[1.0], keep=Keep(at=[0.0, 1.0])).times.tolist() == [0.0, 1.0]
