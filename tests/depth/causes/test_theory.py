"""What theory gives for one layer, against closed forms; and a depth finding that carries it beside what was measured."""

from __future__ import annotations

import math

import pytest
import torch

from gradientflow.depth.causes import theory
from tests.depth.causes.test_rules_on_live_runs import Stack, fit, top, verdict_of


@pytest.mark.parametrize(
    ("name", "mean", "std", "expected"),
    [
        ("relu", 0.0, 3.0, math.sqrt(0.5)),  # He et al. 2015: half of the units, whatever their scale
        ("relu", 5.0, 1.0, 1.0),  # all open
        ("sigmoid", 0.0, 1e-6, 0.25),
        ("tanh", 0.0, 1e-6, 1.0),
        ("hardtanh", 0.0, 1.0, math.sqrt(0.6826895)),  # the share of a Gaussian within one standard deviation
        ("leaky_relu", 0.0, 1.0, math.sqrt(0.5 + 0.5 * 0.2**2)),
    ],
)
def test_slopes_of_activations(name: str, mean: float, std: float, expected: float) -> None:
    assert theory.slope(name, mean, std, 0.2 if name == "leaky_relu" else None) == pytest.approx(expected, rel=5e-3)


def test_an_unknown_activation_has_no_prediction() -> None:
    assert theory.slope("glu", 0.0, 1.0) is None


def test_slopes_agree_with_pytorchs_derivatives() -> None:
    z = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    weight = torch.exp(-0.5 * ((z - 0.3) / 0.8) ** 2)
    for name in ("gelu", "silu", "selu", "elu", "softplus", "softsign", "logsigmoid", "tanh", "sigmoid"):
        x = z.clone().requires_grad_()
        (d,) = torch.autograd.grad(getattr(torch.nn.functional, name)(x).sum(), x)
        expected = math.sqrt(float((weight * d**2).sum() / weight.sum()))
        assert theory.slope(name, 0.3, 0.8) == pytest.approx(expected, rel=3e-3), name
        assert theory.slope(name, 1.3, 0.8) != pytest.approx(expected, rel=1e-3), name


def test_the_floor_of_an_output_range() -> None:
    assert theory.unreachable(0.0, math.inf, 0.0, 1.0) == pytest.approx(0.5, rel=1e-3)
    assert theory.unreachable(-10.0, 10.0, 0.0, 1.0) == pytest.approx(0.0, abs=1e-9)
    assert theory.unreachable(-1.0, 1.0, 4.0, 1e-9) == pytest.approx(9.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("gain", "per_layer"), [(0.5, 0.5 / math.sqrt(2)), (0.8, 0.8 / math.sqrt(2))])
def test_a_finding_carries_what_theory_predicts_from_the_actual_weights(
    seed: int, gain: float, per_layer: float
) -> None:
    torch.manual_seed(seed)
    found = top(
        verdict_of(lambda: fit(Stack(14, torch.relu, 128).scaled(gain), steps=2)), "vanishing", "init-too-small"
    )
    assert found.evidence["theory_gain_per_layer"] == pytest.approx(per_layer, rel=0.06)
    assert found.evidence["gain_per_layer"] == pytest.approx(found.evidence["theory_gain_per_layer"], rel=0.1)
    assert "so it is the initialisation and not chance" in found.summary


def test_where_chance_takes_it_theory_does_not_predict_it() -> None:
    torch.manual_seed(1)
    net = Stack(70, torch.relu, 12).scaled(math.sqrt(2))
    found = top(verdict_of(lambda: fit(net, steps=3)), "vanishing", "depth-without-skip")
    assert abs(found.evidence["theory_decades"]) < 0.5 * abs(found.evidence["decades"])


def test_a_rival_cause_stands_behind_with_its_reason() -> None:
    torch.manual_seed(0)
    verdict = verdict_of(lambda: fit(Stack(9, torch.sigmoid).scaled(0.5), steps=4))
    first, *others = verdict.findings
    assert (first.cause, first.reason) == ("saturating-activation", "")
    rival = next(f for f in others if f.cause == "init-too-small")
    assert "decades" in rival.reason
    assert rival.confidence < first.confidence
