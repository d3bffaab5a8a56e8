"""What becomes of the gradient between backward and the step: each way to change it, with its factor and its line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.watch.transmission import Transmission
from gradientflow.records import Transit
from tests.depth.watch.steps import START, line_of, script, seen, transits

WAYS = {  # what the script writes, as one line -> (name of the call, factor)
    "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.0)": ("clip_grad_norm_", 0.0),
    "torch.nn.utils.clip_grad_value_(model.parameters(), 1e-9)": ("clip_grad_value_", None),
    "[p.grad.mul_(-1) for p in model.parameters()]": ("mul_", -1.0),
    "torch._foreach_mul_([p.grad for p in model.parameters()], 3.0)": ("_foreach_mul_", 3.0),
    "[p.grad.data.zero_() for p in model.parameters()]": ("zero_", 0.0),
    "model.zero_grad()": ("zero_grad", 0.0),
    "[setattr(p, 'grad', 5 * p.grad) for p in model.parameters()]": ("grad = …", 5.0),
    "[p.grad.copy_(p.grad / 4) for p in model.parameters()]": ("copy_", 0.25),
    "[torch.mul(p.grad, 7, out=p.grad) for p in model.parameters()]": ("mul", 7.0),
    "[p.grad.__setitem__(slice(None), 2 * p.grad) for p in model.parameters()]": ("__setitem__", 2.0),
    "for p in model.parameters(): p.grad *= 0.5": ("mul_", 0.5),
    "for p in model.parameters(): p.grad[...] = 0": ("__setitem__", 0.0),
    "for p in model.parameters(): p.grad.view(-1).neg_()": ("neg_", -1.0),
}


def total(transit: Transit) -> float:
    """The factor that all gradients together went through."""
    square = sum(p.delivered**2 for p in transit.passed)
    return sum((p.factor or 0.0) * p.delivered**2 for p in transit.passed) / square


def test_each_way_is_told_with_its_line_and_its_factor(tmp_path: Path) -> None:
    between = "\n".join(f"if k == {k}:\n    {way}" for k, way in enumerate(WAYS))
    text = script(between, count=len(WAYS) + 1)
    found = transits(seen(tmp_path, text))
    assert len(found) == len(WAYS) + 1
    for transit, (way, (name, times)) in zip(found, WAYS.items(), strict=False):
        (alteration,) = transit.alterations
        assert (alteration.name, alteration.line) == (name, line_of(text, way)), way
        assert (alteration.file or "").endswith("script.py")
        assert len(transit.passed) == 4
        if times is None:
            assert alteration.factor is not None and 0 < alteration.factor < 1e-3
        else:
            assert alteration.factor == pytest.approx(times, rel=1e-5), way
            assert total(transit) == pytest.approx(times, rel=1e-5), way
        assert alteration.tensors == 4
        assert alteration.params == [0, 1, 2, 3]
    control = found[-1]
    assert control.alterations == []
    assert [p.factor for p in control.passed] == pytest.approx([1.0] * 4)
    assert all(p.sent is None and p.inside is None for p in control.passed)


def test_what_no_call_shows_is_seen_in_the_gradient_all_the_same(tmp_path: Path) -> None:
    (first, *_) = transits(seen(tmp_path, script("for p in model.parameters():\n    p.grad.numpy()[...] *= 0.25")))
    assert first.alterations == []
    assert total(first) == pytest.approx(0.25)


def test_a_clip_that_has_nothing_to_do_changes_nothing(tmp_path: Path) -> None:
    for transit in transits(seen(tmp_path, script("torch.nn.utils.clip_grad_norm_(model.parameters(), 1e6)"))):
        assert transit.alterations == []


def test_the_order_of_clip_and_unscaling(tmp_path: Path) -> None:
    loop = """
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for k in range(2):
        optimizer.zero_grad()
        for part in range(3):
            loss = ((model(x + part) - y) ** 2).mean() / 3
            scaler.scale(loss).backward()
        if k == 0:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        scaler.step(optimizer)
        scaler.update()
    """
    after, before = transits(seen(tmp_path, START + textwrap.dedent(loop)))
    assert [a.name for a in after.alterations] == ["unscale_", "clip_grad_norm_"]
    assert [a.name for a in before.alterations] == ["clip_grad_norm_", "unscale_"]
    assert after.alterations[0].factor == pytest.approx(1 / 1024)
    assert before.alterations[0].factor == pytest.approx((after.alterations[1].factor or 0) / 1024, rel=0.2)


def test_what_is_cleared_between_two_backward_calls_is_no_alteration(tmp_path: Path) -> None:
    """The gradients of an attack's backward call, say."""
    again = "optimizer.zero_grad()\n((model(x + 0.1) - y) ** 2).mean().backward()"
    for transit in transits(seen(tmp_path, script(again))):
        assert transit.alterations == []
        assert total(transit) == pytest.approx(1.0)


def test_a_second_call_on_the_same_loss_is_counted(tmp_path: Path) -> None:
    text = script().replace("    loss.backward()", "    loss.backward(retain_graph=True)\n    loss.backward()")
    assert [t.again for t in transits(seen(tmp_path, text))] == [1, 1, 1]
    assert [t.again for t in transits(seen(tmp_path, script()))] == [0, 0, 0]


# ── hooks within backward ────────────────────────────────────────────────────────────────────────────────────────────

HOOKS = """
def silence(g):
    return g * 0.0


def turn(p):
    p.grad.neg_()


def look(g):
    looked.append(float(g.norm()))


class Half:
    def __call__(self, g):
        return g / 2


looked = []
model[0].weight.register_hook(silence)
model[2].weight.register_post_accumulate_grad_hook(turn)
model[2].bias.register_hook(lambda g: 3 * g)
model[2].bias.register_hook(Half())
model[0].bias.register_hook(look)
"""


def test_each_hook_on_a_parameter_is_told_with_its_line_and_its_factor(tmp_path: Path) -> None:
    text = script(start=HOOKS, count=4)
    found = transits(seen(tmp_path, text))  # (bit for bit the same with our readers between the hooks)
    assert len(found) == 4
    for transit in found:
        told = {a.line: (a.name, (a.file or "")[-9:], a.factor, a.params) for a in transit.alterations}
        assert told == {
            line_of(text, "def silence"): ("hook", "script.py", 0.0, [0]),
            line_of(text, "def turn"): ("hook", "script.py", pytest.approx(-1.0), [2]),
            line_of(text, "lambda g: 3 * g"): ("hook", "script.py", pytest.approx(3.0), [3]),
            line_of(text, "def __call__"): ("hook", "script.py", pytest.approx(0.5), [3]),
        }
        passed = {p.param: p for p in transit.passed}
        assert passed[0].inside == 0.0 and passed[0].sent is not None and passed[0].sent > 0.01
        assert passed[0].delivered == 0.0
        assert passed[1].inside == pytest.approx(1.0)  # (only looked at)
        assert passed[2].inside == pytest.approx(-1.0)
        assert passed[3].inside == pytest.approx(1.5)


def test_hooks_that_are_set_and_removed_within_backward_stay_so(tmp_path: Path) -> None:
    changing = """
    calls = []


    def once(g):
        calls.append("once")
        first.remove()
        model[2].bias.register_hook(later)


    def later(g):
        calls.append("later")


    first = model[2].bias.register_hook(once)
    """
    run = seen(tmp_path, script(start=changing))
    assert transits(run)[0].alterations == []


def test_our_own_hook_and_none_at_all_are_no_alteration(tmp_path: Path) -> None:
    """From the second step on a hook of ours stands on a parameter, to find the loss."""
    run = seen(tmp_path, script(count=4))
    assert [t.alterations for t in transits(run)] == [[]] * 4
    assert all(p.inside is None for t in transits(run) for p in t.passed)


def test_an_optimizer_that_steps_within_backward(tmp_path: Path) -> None:
    loop = """
    each = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}


    def step(p):
        each[p].step()
        each[p].zero_grad()


    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    for k in range(3):
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
    """
    run = seen(tmp_path, START + textwrap.dedent(loop))
    assert len(run.steps) == 12
    assert not [a for t in transits(run) for a in t.alterations]


def test_gradients_of_another_thread_are_not_read() -> None:
    """What else trains in this process has gradients too, which its own thread may be replacing just now."""
    ours, theirs = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    registry = Registry()
    optimizers = [torch.optim.SGD([t], lr=0.1) for t in (ours, theirs)]
    mine, other = map(registry.stepped_by, optimizers)
    ours.grad, theirs.grad = torch.ones(3), torch.ones(3)
    way = Transmission(registry, lambda function, *args: function(*args))
    way.delivered(mine)
    assert way.kept(mine[0]) is not None and way.kept(other[0]) is None
    way.delivered([*mine, *other])  # the control
    assert way.kept(other[0]) is not None
