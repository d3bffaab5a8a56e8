"""What mean-field theory says of a small network: closed forms, and beside them the network itself."""

from __future__ import annotations

import math
import statistics

import pytest
from msgspec.structs import replace

from gradientflow.depth.small import law
from gradientflow.depth.small.look import small_look
from gradientflow.records import Knobs

DEEP = Knobs(depth=24, width=64)


def each(knobs: Knobs) -> float:
    """The factor of the last of the gaps: there the states have settled."""
    told = law.decades(knobs)
    return float(10 ** (told[1] - told[0]))


@pytest.mark.parametrize(
    ("knobs", "factor"),
    [
        (Knobs(activation="relu", init="default"), 1 / math.sqrt(6)),
        (Knobs(activation="relu", init="he"), 1.0),
        (Knobs(activation="none", init="xavier", gain=1.5), 1.5),
        (Knobs(depth=60, activation="relu", init="xavier", norm="batch"), math.sqrt(math.pi / (math.pi - 1))),  # Yang et al. 2019
        (Knobs(activation="relu", init="he", norm="layer"), 1.0),
        (Knobs(activation="relu", init="he", skip=True), math.sqrt(2.0)),
        (Knobs(activation="none", init="orthogonal", gain=0.5, time=30), 0.5),
    ],
)  # fmt: skip
def test_closed_forms(knobs: Knobs, factor: float) -> None:
    assert each(knobs) == pytest.approx(factor, rel=2e-3)


def test_a_wide_gaussian_meets_the_bend_of_an_activation() -> None:
    for std in (1e-3, 1.0, 30.0, 3e3):
        m = law._moments("tanh", std)
        if std >= 30:  # E[sech⁴ z] = (4/3) / (std √2π)
            assert m.slope == pytest.approx(4 / 3 / (std * math.sqrt(2 * math.pi)), rel=0.01)
        if std <= 1e-3:
            assert m.square == pytest.approx(std**2, rel=1e-3) and m.slope == pytest.approx(1, rel=1e-3)


def test_the_critical_gain_keeps_the_gradient_and_others_do_not() -> None:
    for knobs in (
        replace(DEEP, activation="tanh", init="xavier"), replace(DEEP, activation="gelu"), Knobs(time=40, activation="tanh", init="orthogonal")
    ):  # fmt: skip
        gain = law.critical(knobs)
        assert gain is not None
        assert law.decades(replace(knobs, gain=gain))[-1] == pytest.approx(0, abs=0.1)
        assert abs(law.decades(replace(knobs, gain=0.8 * gain))[-1]) > 0.4
    assert law.critical(replace(DEEP, init="he")) == pytest.approx(1.0, abs=0.01)
    assert law.critical(replace(DEEP, init="he", norm="layer")) is None  # the scale of the weights is divided away
    assert law.critical(replace(DEEP, init="he", skip=True)) is None


@pytest.mark.parametrize(
    "knobs",
    [
        DEEP, replace(DEEP, activation="sigmoid", depth=12), replace(DEEP, activation="tanh", init="xavier"),
        replace(DEEP, norm="batch"), replace(DEEP, skip=True), replace(DEEP, skip=True, norm="layer", activation="gelu"),
        Knobs(time=30, activation="tanh", init="orthogonal", gain=3.0),
    ],
)  # fmt: skip
def test_theory_foretells_what_is_measured(knobs: Knobs) -> None:
    looked = [small_look(replace(knobs, seed=s)).law for s in range(2)]
    measured = statistics.mean(one.measured[-1] or math.nan for one in looked)
    foretold = looked[0].theory[-1]
    assert measured == pytest.approx(foretold, abs=max(0.6, 0.12 * abs(foretold)))
    gaps = len(looked[0].theory) - 1
    wrong = law.decades(replace(knobs, gain=1.4 * knobs.gain, skip=False, norm="none"))[
        -1
    ]  # the control: another network
    assert abs(measured - wrong) > max(0.6, 0.12 * abs(foretold)) and len(looked[0].measured) == gaps + 1
