"""What the table says of activations, held against PyTorch: every one is known, slopes and ranges by autograd, gains by numbers."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradientflow.ops import (
    ACTIVATIONS,
    DYING,
    HALVING,
    HALVING_GAIN,
    KINDS,
    NOT_ELEMENTWISE,
    RANGES,
    SATURATING,
    Activation,
    critical_gain,
    kind_of,
    output_range,
    plain_name,
)
from gradientflow.ops.activations import HALVES, SATURATES

GRID = torch.cat([torch.linspace(-60.0, 60.0, 4001), torch.linspace(-4.0, 4.0, 4001)]).double()
WITH_ARGUMENTS = {"Threshold": (0.0, 0.0)}
OF_ONE_NUMBER = [a for a in ACTIVATIONS.values() if a.slope is not None]


def module(a: Activation) -> nn.Module:
    return getattr(nn, a.module)(*WITH_ARGUMENTS.get(a.module, ())).double().eval()


def slopes_and_values(a: Activation, at: Tensor = GRID) -> tuple[Tensor, Tensor]:
    x = at.clone().requires_grad_(True)
    y = module(a)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return slope, y.detach()


def breaches(a: Activation) -> list[str]:
    """What autograd says against a row of the table."""
    slope, y = slopes_and_values(a)
    told = torch.tensor([a.slope(float(z)) for z in GRID]).double() if a.slope is not None else slope
    smooth = torch.stack([(GRID.abs() - kink).abs().gt(1e-9) for kink in (0.0, 0.5, 1.0, 3.0, 6.0)]).all(0)
    found = []
    if not torch.allclose(slope[smooth], told[smooth], rtol=1e-5, atol=1e-7):
        found.append(f"slope: off by {float((slope - told)[smooth].abs().max()):.3g}")
    if float(slope.min()) < a.slopes[0] - 1e-3 or float(slope.max()) > a.slopes[1] + 1e-3:
        found.append(f"slopes {float(slope.min()):.4g} to {float(slope.max()):.4g} leave {a.slopes}")
    if float(slope.min()) > a.slopes[0] + 2e-2 or float(slope.max()) < a.slopes[1] - 2e-2:
        found.append(f"slopes {a.slopes} are never reached")
    if float(y.min()) < a.low - 1e-4 or float(y.max()) > a.high + 1e-9:
        found.append(f"values {float(y.min()):.4g} to {float(y.max()):.4g} leave {(a.low, a.high)}")
    if (math.isfinite(a.low) and float(y.min()) > a.low + 0.02) or (
        math.isfinite(a.high) and float(y.max()) < a.high - 0.02
    ):
        found.append(f"range {(a.low, a.high)} is never reached")
    return found


def test_every_activation_of_pytorch_is_known_or_named_as_none() -> None:
    classes = set(torch.nn.modules.activation.__all__)
    known = {a.module for a in ACTIVATIONS.values()}
    assert classes - known - set(NOT_ELEMENTWISE) == set()
    assert known - classes - {""} == set(), "a class that PyTorch does not have"
    assert not known & set(NOT_ELEMENTWISE)


@pytest.mark.parametrize("a", OF_ONE_NUMBER, ids=lambda a: a.name)
def test_slopes_and_ranges_are_those_of_autograd(a: Activation) -> None:
    assert breaches(a) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": lambda z: 1.1 * (1.0 - math.tanh(z) ** 2)},
        {"slopes": (0.0, 0.9)},
        {"slopes": (0.0, 1.1)},
        {"low": -0.9},
        {"high": 1.1},
    ],
)
def test_a_wrong_row_is_found_out(wrong) -> None:
    row = {k: getattr(ACTIVATIONS["tanh"], k) for k in ("name", "family", "slope", "low", "high", "slopes", "module")}
    assert breaches(Activation(**row)) == []
    assert breaches(Activation(**(row | wrong))) != []


@pytest.mark.parametrize("a", [a for a in OF_ONE_NUMBER if a.family in (SATURATES, HALVES)], ids=lambda a: a.name)
def test_the_family_is_what_the_slope_does_far_out(a: Activation) -> None:
    (left, right), _ = slopes_and_values(a, torch.tensor([-50.0, 50.0]).double())
    ends = sorted((abs(float(left)), abs(float(right))))
    if a.name == "relu6":  # bounded, but its six units of slope 1 are where a network lives: it is treated as a ReLU
        assert ends == [0.0, 0.0] and a.family == HALVES
    elif a.family == SATURATES:
        assert ends[1] < 1e-3
    else:
        assert ends[0] < 0.3 and 0.99 < ends[1] < 1.06


def test_the_gain_of_the_halving_family_makes_up_for_the_half_that_passes() -> None:
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0)).double()
    passed = {a.name: math.sqrt(float(slopes_and_values(a, z)[0].pow(2).mean())) for a in OF_ONE_NUMBER if a.module}
    assert passed["relu"] * HALVING_GAIN == pytest.approx(1.0, abs=0.01)
    assert passed["sigmoid"] * HALVING_GAIN < 0.5, "the control: √2 is not enough for a sigmoid"
    # No other member of the family is further from 1 with √2 than a factor of 1.5, and none passes like a saturating one.
    assert all(2 / 3 < passed[a.name] * HALVING_GAIN < 1.5 for a in OF_ONE_NUMBER if a.family == HALVES and a.module)
    assert passed["sigmoid"] < 0.25 and passed["hardsigmoid"] < 0.25
    # SELU keeps a gradient by itself: √2 would grow it by as much in each layer.
    assert passed["selu"] * critical_gain(["selu"]) == pytest.approx(1.0, abs=0.05)
    assert passed["selu"] * HALVING_GAIN > 1.4, "the control"


@pytest.mark.parametrize("name", sorted(HALVING))
def test_one_family_has_one_gain(name: str) -> None:
    assert critical_gain([name] * 16) == HALVING_GAIN
    assert critical_gain([name, "sigmoid"]) == 1.0, "a tie goes to what saturates"


def test_the_gain_of_tanh_is_that_of_pytorch() -> None:
    assert critical_gain(["tanh"]) == nn.init.calculate_gain("tanh")
    assert critical_gain(["relu"]) == nn.init.calculate_gain("relu")
    assert critical_gain([]) == critical_gain(["softsign"]) == 1.0


@pytest.mark.parametrize("a", ACTIVATIONS.values(), ids=lambda a: a.name)
def test_every_way_to_call_an_activation_has_one_name(a: Activation) -> None:
    assert kind_of(a.name) == "activation"
    spelled = [n for n in (a.name, f"{a.name}_") for owner in (F, torch, Tensor) if hasattr(owner, n)]
    assert spelled and {plain_name(n) for n in spelled} == {a.name}
    assert a.everywhere == (hasattr(torch, a.name) and hasattr(Tensor, a.name))


def test_units_that_can_stand_still_for_a_batch_are_those_that_are_constant_on_a_half_line() -> None:
    far = torch.linspace(-60, -10, 50).double()
    constant = {
        a.name
        for a in OF_ONE_NUMBER
        if a.module and bool((slopes_and_values(a, far)[0] == 0).all()) and a.slopes[1] > 0.9
    }
    exact = {n for n in constant if bool((slopes_and_values(ACTIVATIONS[n], far)[1].diff() == 0).all())}
    assert {n for n in DYING if ACTIVATIONS[n].slope is not None} == exact - {
        "hardswish",
        "tanhshrink",
        "tanh",
        "softsign",
    }


def test_families_do_not_overlap_and_bounded_ones_have_ranges() -> None:
    assert not SATURATING & HALVING
    assert set(RANGES) == {"sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign", "relu6"}
    assert output_range("softplus") == (0.0, math.inf) and output_range("linear") is None


def test_kinds_name_functions_that_pytorch_has() -> None:
    owners = (torch, F, Tensor, torch.linalg, torch.special, torch._C._nn, torch._C._VariableFunctions)
    missing = {
        n for n in KINDS if not any(hasattr(o, n) or hasattr(o, f"__{n}__") or hasattr(o, f"{n}_") for o in owners)
    }
    assert missing <= {"rnn_tanh_cell", "rnn_relu_cell"}, "names that nothing is called by"


def test_nothing_here_needs_torch() -> None:
    for name in ("activations", "kinds", "recurrent", "singular"):
        text = inspect.getsource(__import__(f"gradientflow.ops.{name}", fromlist=["x"]))
        assert "import torch" not in text
