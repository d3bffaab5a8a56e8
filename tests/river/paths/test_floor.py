"""What a path tells of loss and ‖∇L‖ below its tolerance is told as unresolved; what is above is the flow's own."""

from __future__ import annotations

import math
from pathlib import Path as File

import pytest
import torch

from gradientflow.river import Path, Potential, descend, flow
from gradientflow.river.told import tell

D = torch.float64
RATES = torch.tensor([1.0, 4.0, 30.0, 200.0], dtype=D)
BOWL = Potential(lambda w: 0.5 * (RATES * (w - 1) ** 2).sum(), start=[3.0, 3.0, 3.0, 3.0])


def true(times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and ‖∇L‖ of the bowl's exact flow."""
    away = 2.0 * torch.exp(-RATES * times[:, None])
    return 0.5 * (RATES * away**2).sum(1), (RATES * away).norm(dim=1)


@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_what_is_told_as_resolved_is_right_and_the_noise_is_told_as_noise(rtol: float):
    path = flow(BOWL, 25.0, rtol=rtol, certify=False)
    assert path.loss is not None
    for told, exact, name in zip((path.loss, path.grad_norm), true(path.times), ("loss", "grad_norm"), strict=True):
        low = path.unresolved[name]
        off = (told / exact).log().abs() > math.log(2)
        assert not bool((off & ~low).any()), name  # what is off by two is marked
        assert bool((off & low).any()) and bool(low[-1])  # negative control: there is such, and it is marked
        assert float(low.double().mean()) < 0.8 and not bool(low[0])
    assert "(unresolved)" in repr(path) and any("below what rtol" in note for note in path.notes)


def test_a_path_that_ends_where_its_tolerance_reaches_is_not_marked():
    path = flow(BOWL, 3.0, certify=False)
    assert not bool(path.unresolved["loss"].any()) and "unresolved" not in repr(path)
    assert not any("below what rtol" in note for note in path.notes)


def test_a_loss_that_falls_to_another_value_than_zero_is_resolved_and_its_slope_is_not():
    path = flow(Potential(lambda w: 5.0 + 0.5 * (w * w).sum(), start=[1.0, -1.0]), 30.0, rtol=1e-3)
    assert not bool(path.unresolved["loss"].any()) and bool(path.unresolved["grad_norm"][-1])
    assert any("on ‖∇L‖ is below" in note for note in path.notes)


def test_floors_go_where_the_path_goes(tmp_path: File):
    path = flow(BOWL, 25.0, certify=False)
    path.save(tmp_path / "p.npz")
    again = Path.load(tmp_path / "p.npz")
    assert torch.equal(again.unresolved["loss"], path.unresolved["loss"])
    told = tell(BOWL, target="bowl", t=25.0, stories=[(path, [], None)]).stories[0].flow
    assert len(told.loss_floor) == len(told.grad_floor) == len(told.times)
    assert told.loss_floor[-1] is not None and told.loss is not None and told.loss[-1] < told.loss_floor[-1]


def test_where_no_tolerance_is_kept_nothing_is_known():
    assert flow(BOWL, 1.0, method="rk4", step=0.01).unresolved == {}
    assert descend(BOWL, torch.optim.SGD, t=1.0, lr=0.005).unresolved == {}
