"""The rule that finds small weights, the plan that rescales them and the edit that writes it agree on the gain."""

import pytest
import torch
from torch import nn

import gradientflow as gf
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.flow import account
from gradientflow.depth.remedies.planner import Planner
from gradientflow.depth.remedies.weights.plan import gain_of, rescale_init
from gradientflow.ops import ACTIVATIONS, HALVING, HALVING_GAIN, SATURATING, critical_gain

MODULES = {a.name: a.module for a in ACTIVATIONS.values() if a.module and a.alone and a.name in HALVING | SATURATING}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rule_and_plan_name_the_same_gain(name: str) -> None:
    torch.manual_seed(0)
    layers = [m for _ in range(16) for m in (nn.Linear(32, 32), getattr(nn, MODULES[name])())]
    model = nn.Sequential(*layers, nn.Linear(32, 3))
    found = gf.diagnose(model, nn.functional.cross_entropy, (torch.randn(64, 32), torch.randint(3, (64,))))
    graph = Case(found.run).finite[0]
    finding = next((f for f in found.findings if f.symptom == "vanishing"), None)
    told = account(graph).critical
    planned = gain_of(graph)
    if name in HALVING:
        assert told == planned == HALVING_GAIN
    else:  # the rule blames a saturating function apart, and holds the weights against 1; the plan makes up for the function
        assert told == 1.0 and planned == critical_gain([name])
    if finding is not None and finding.cause == "init-too-small":
        (change,) = rescale_init(Planner(found.run, found.verdict), finding)
        assert change.settings["gain"] == pytest.approx(planned, abs=1e-3)
