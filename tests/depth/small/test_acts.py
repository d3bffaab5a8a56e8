"""Theory and script speak of the same functions."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradientflow.depth.small.acts import ACTS
from gradientflow.records import Knobs


def test_every_choice_of_the_knob_is_there() -> None:
    assert set(ACTS) == set(get_args(get_type_hints(Knobs)["activation"]))


@pytest.mark.parametrize("name", ACTS)
def test_the_expression_computes_what_theory_integrates_over(name: str) -> None:
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    said = {n: eval(act.text.format("z"), {"torch": torch, "nn": nn, "F": F, "z": z}) for n, act in ACTS.items()}
    assert torch.equal(said[name], ACTS[name].apply(z))
    assert not any(torch.equal(other, said[name]) for n, other in said.items() if n != name)  # control
