"""Edits of singular operations: the operand kept away from the singular point."""

from __future__ import annotations

import pytest

from gradientflow.records import Change, Operand, Place
from tests.depth.remedies.editing import (
    FILE,
    HEAD,
    after,
    op,
)

CLAMPS = {
    "sqrt of squares": ("d = torch.sqrt((a - b).pow(2).sum(1))", "sqrt", "d = torch.sqrt((a - b).pow(2).sum(1) + 1e-06)"),
    "sqrt of anything": ("d = torch.sqrt(v)", "sqrt", "d = torch.sqrt(v.clamp_min(1e-06))"),
    "a method": ("d = ((a - b) ** 2).sum(1).sqrt()", "sqrt", "d = (((a - b) ** 2).sum(1) + 1e-06).sqrt()"),
    "a half power": ("d = (v - u) ** 0.5", "pow", "d = (v - u).clamp_min(1e-06) ** 0.5"),
    "log": ("l = -torch.log(p).mean()", "log", "l = -torch.log(p.clamp_min(1e-06)).mean()"),
    "log of a difference": ("l = torch.log(1 - p)", "log", "l = torch.log((1 - p).clamp_min(1e-06))"),
    "log as a method": ("l = (1 - p).log()", "log", "l = (1 - p).clamp_min(1e-06).log()"),
    "both logs": ("l = y * torch.log(p) + z * torch.log(q)", "log", "l = y * torch.log(p.clamp_min(1e-06)) + z * torch.log(q.clamp_min(1e-06))"),
    "division": ("r = a / s", "div", "r = a / s.clamp_min(1e-06)"),
    "division by a norm": ("r = a / a.norm()", "div", "r = a / (a.norm() + 1e-06)"),
    "division by a difference": ("r = a / (s - t)", "div", "r = a / (s - t).clamp_min(1e-06)"),
    "normalize": ("u = F.normalize(v, dim=1)", "normalize", "u = F.normalize(v, dim=1, eps=1e-06)"),
    "normalize with an eps": ("u = F.normalize(v, eps=1e-12)", "normalize", "u = F.normalize(v, eps=1e-06)"),
    "exp": ("e = torch.exp(s * t)", "exp", "e = torch.exp((s * t).clamp(max=40))"),
    "acos": ("t = torch.acos(c)", "acos", "t = torch.acos(c.clamp(-0.999999, 0.999999))"),
    "a norm": ("r = a / a.norm(dim=1)", "norm", "r = a / a.norm(dim=1).clamp_min(1e-06)"),
    "logit": ("l = torch.logit(p)", "logit", "l = torch.logit(p, eps=1e-06)"),
    "log1p": ("l = torch.log1p(p)", "log1p", "l = torch.log1p(p.clamp_min(-0.999999))"),
    "cosine": ("c = F.cosine_similarity(a, b)", "cosine_similarity", "c = F.cosine_similarity(a, b, eps=1e-06)"),
    "inside where": ("w = torch.where(z > 0, torch.log(z), z)", "log", "w = torch.where(z > 0, torch.log(z.clamp_min(1e-06)), z)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAMPS)
def test_an_operand_is_kept_from_the_singular_point(name: str) -> None:
    text, op_name, new = CLAMPS[name]
    source = HEAD + text + "  # here\nprint(text)\n"
    found = after(source, Change("clamp-op", "", [Place(FILE, 5, None, op_name)], {"eps": 1e-6}))
    assert found == HEAD + new + "  # here\nprint(text)\n"


def test_a_divisor_of_both_signs_keeps_its_sign() -> None:
    source = HEAD + "r = a / d\n"
    ops = [op(0, "sub", "elementwise", 4, [3]), op(1, "div", "singular", 5, [3], [Operand(), Operand(op=0)])]
    change = Change("clamp-op", "", [Place(FILE, 5, None, "div")], {"eps": 1e-6})
    wanted = "r = a / torch.where(d < 0, d.clamp(max=-1e-06), d.clamp(min=1e-06))\n"
    assert after(source, change, ops=ops) == HEAD + wanted
    unnamed = HEAD + "r = a / (b - c)\n"
    assert after(unnamed, change, ops=ops) is None
    ops[0].value.min = 0.0
    assert after(unnamed, change, ops=ops) == HEAD + "r = a / (b - c).clamp_min(1e-06)\n"


def test_a_softmax_by_hand_takes_off_the_largest() -> None:
    settings = {"eps": 1e-6, "shift": True, "dim": 1}
    change = Change("clamp-op", "", [Place(FILE, 5, None, "exp")], settings)
    assert (
        after(HEAD + "e = torch.exp(s / t)\n", change)
        == HEAD + "e = torch.exp(s / t - (s / t).amax(1, keepdim=True))\n"
    )
    assert after(HEAD + "e = torch.exp(net(x))\n", change) == HEAD + "e = torch.exp(net(x).clamp(max=40))\n"


def test_an_operation_that_is_not_on_the_line_is_not_replaced_by_another() -> None:
    for text, name in (
        ("y = torch.sqrt(x)", "log"),
        ("y = x ** 2", "pow"),
        ("y = a / 2", "div"),
        ("y = net(x)", "linear"),
    ):
        assert after(HEAD + text + "\n", Change("clamp-op", "", [Place(FILE, 5, None, name)])) is None
    assert after(HEAD + "y = a / b / c\n", Change("clamp-op", "", [Place(FILE, 5)])) is None
