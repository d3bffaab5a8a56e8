"""What a notebook shows of fields, paths and comparisons."""

from __future__ import annotations

import random
import re

import torch
from torch import nn

import gradientflow as gf


def test_a_field_of_two_parameters_is_arrows_along_its_rate() -> None:
    bowl = gf.Potential(lambda w: 0.5 * (w * w).sum(), start=[2.0, 0.0], name="bowl")
    picture = bowl._repr_html_()
    moves = [(float(a), float(b)) for a, b in re.findall(r"l(-?[\d.]+) (-?[\d.]+)m", picture)]
    assert len(moves) > 150 and "bowl: a gradient flow of 2 parameters" in picture
    left_half = sum(dx > 0 for dx, _ in moves)
    assert 30 < left_half < len(moves) - 30  # towards the middle from both sides


def test_a_network_is_the_gradient_of_each_of_its_parameters() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(8, 3)
    field = gf.LossField(model, nn.functional.mse_loss, (x, x[:, :1]))
    before = [p.clone() for p in model.parameters()]
    picture = field._repr_html_()
    nn.functional.mse_loss(model(x), x[:, :1]).backward()
    for name, p in model.named_parameters():
        assert f">{name}</text>" in picture and p.grad is not None
        assert f">{float(p.grad.norm()):.3g}</text>" in picture
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_field_that_fails_is_a_sentence() -> None:
    def wrong(w: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("<b>by nothing</b>")

    picture = gf.Potential(wrong, start=[1.0, 1.0], name="sick")._repr_html_()
    assert "<svg" not in picture and "ZeroDivisionError: &lt;b&gt;by nothing" in picture
    assert "names no point to start at" in gf.Potential(lambda w: w.sum())._repr_html_()


def test_a_path_and_a_comparison_are_their_losses_and_draw_no_random_number() -> None:
    bowl = gf.Potential(lambda w: 0.5 * (w * w).sum(), start=[2.0, 1.0], name="bowl")
    path, descent = gf.flow(bowl, 2.0), gf.descend(bowl, torch.optim.SGD, 2.0, lr=0.2)
    state = random.getstate()
    one, both = path._repr_html_(), gf.compare(path, descent)._repr_html_()
    assert random.getstate() == state
    assert one.count('stroke="#') == 1 and both.count('stroke="#') == 2
    assert "by " in one and "SGD lr=0.2" in both and "of the whole way beside the flow" in both
    assert f">{2.5:g}</text>" in one  # the loss at the start
