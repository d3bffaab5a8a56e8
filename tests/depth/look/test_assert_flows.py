"""`assert_flows`: an AssertionError that says what, where, by how much, and what helps; nothing where all is well."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import gradientflow as gf
from gradientflow.errors import GradientflowError, UsageError
from tests.depth.look import nets

F = nn.functional


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def fault(model: Any, loss: Any = F.cross_entropy, **options: Any) -> gf.GradientFault:
    with pytest.raises(AssertionError) as caught:
        gf.assert_flows(model, loss, nets.batch(), **options)
    assert isinstance(caught.value, gf.GradientFault) and isinstance(caught.value, GradientflowError)
    return caught.value


def test_the_message_says_symptom_place_numbers_and_mend() -> None:
    found = fault(nets.Stack("sigmoid"))
    text = str(found)
    assert text.startswith("the gradient of Stack does not flow\nvanishing because of saturating-activation at ")
    assert f"nets.py:{nets.line_of('# the activation')}" in text
    assert "threshold 2" in text and "decades" in text
    assert "mend: Swap the activation" in text
    assert found.diagnosis.symptom == "vanishing" and found.diagnosis.run.probes


def test_a_healthy_model_passes_and_gives_its_diagnosis() -> None:
    assert gf.assert_flows(nets.Stack("relu", 2), F.cross_entropy, nets.batch()).healthy


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_factor_on_the_loss_changes_nothing(factor: float) -> None:
    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return factor * F.cross_entropy(output, y)

    assert gf.assert_flows(nets.Stack("relu", 2), loss, nets.batch(), max_decades=2).healthy
    assert fault(nets.Stack("sigmoid"), loss, max_decades=2).diagnosis.cause == "saturating-activation"


@pytest.mark.parametrize("word", ["vanishing", "saturating-activation", ("dead", "vanishing")])
def test_what_is_allowed_passes_and_nothing_else(word: Any) -> None:
    found = gf.assert_flows(nets.Stack("sigmoid"), F.cross_entropy, nets.batch(), allow=word)
    assert found.symptom == "vanishing"
    assert fault(nets.Cut(cut=True), allow=word).diagnosis.symptom == "disconnected"


def test_max_decades_is_held_beside_the_rules() -> None:
    net = nets.Stack("relu", 3)
    decades = gf.diagnose(net, F.cross_entropy, nets.batch()).decades
    assert decades is not None and 0.3 < abs(decades) < 2.0  # healthy to the rules
    assert gf.assert_flows(net, F.cross_entropy, nets.batch(), max_decades=abs(decades) + 0.01).healthy
    text = str(fault(net, max_decades=abs(decades) - 0.01))
    assert f"loses {abs(decades):.2f} decades" in text
    assert "loses" in str(
        fault(nets.Stack("sigmoid"), allow="vanishing", max_decades=2.0)
    )  # also where that is allowed
    gated = nets.Gated(skip=False)
    assert "exactly zero" in str(fault(gated, max_decades=1.0))
    assert gf.assert_flows(gated, F.cross_entropy, nets.batch()).healthy
    assert gf.assert_flows(nn.Linear(32, 5), F.cross_entropy, nets.batch(), max_decades=0.1).healthy


def test_the_step_is_asserted_too_where_an_optimizer_is_given() -> None:
    net = nets.Stack("relu", 2)
    hot = fault(net, optimizer=lambda params: torch.optim.SGD(params, lr=100.0), steps=20)
    assert "step-too-large" in str(hot)
    assert gf.assert_flows(net, F.cross_entropy, nets.batch(), optimizer=torch.optim.Adam, steps=10).healthy


def test_what_cannot_be_asserted_is_refused() -> None:
    net = nets.Stack("relu", 2)
    for options, match in (
        ({"allow": "any"}, "neither"),
        ({"allow": ["healthy"]}, "neither"),
        ({"max_decades": 0}, "above 0"),
    ):
        with pytest.raises(UsageError, match=match):
            gf.assert_flows(net, F.cross_entropy, nets.batch(), **options)
