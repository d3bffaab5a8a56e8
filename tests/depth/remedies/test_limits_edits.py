"""The limits of the edits, each from both sides: dry.

Of `gradientflow.depth.remedies.data.limits`, `gradientflow.depth.remedies.operands.edit` and
`gradientflow.depth.remedies.weights.targets`.
"""

from __future__ import annotations

from gradientflow.records import Change, Place, Step
from tests.depth.causes.by_hand import flips
from tests.depth.remedies.editing import FILE, HEAD, after, edited, optimizer, run

LOOP = """import torch
opt = torch.optim.SGD([w], lr=0.1)
for x in data:
    opt.zero_grad()
    loss = f(x)
    loss.backward()
    opt.step()
"""


def dropped(norms: list[float]) -> str:
    steps = [Step(n, 0.0, 0, 0.1, 1.0, norm, 1.0, 0.1) for n, norm in enumerate(norms, 1)]
    made = edited(
        Change("drop-bad-batch", ""), run(LOOP, [optimizer(LOOP, "torch.optim.SGD(", "opt.step(")], steps=steps)
    )
    assert made is not None
    return made.after


def by_norm(norms: list[float]) -> bool:
    """Whether the gradient's norm is what decides; else whether the loss is finite."""
    return "clip_grad_norm_" in dropped(norms)


def test_a_gradient_that_stands_out() -> None:
    flips(lambda largest: by_norm([1.0] * 9 + [largest]), 4.9, 5.1)


def test_gradients_that_have_a_usual_norm() -> None:
    flips(lambda count: by_norm([1.0] * (int(count) - 1) + [100.0]), 4, 5)


def test_the_norm_beyond_which_a_step_is_left_out() -> None:
    assert "if not norm < 20:" in dropped([1.0] * 9 + [100.0])


def test_as_many_operations_alike_on_a_line() -> None:
    def clamped(count: float) -> bool:
        line = " + ".join(f"torch.log(p{k})" for k in range(int(count)))
        return (
            after(HEAD + f"y = {line}\n", Change("clamp-op", "", [Place(FILE, 5, None, "log")], {"eps": 1e-6}))
            is not None
        )

    flips(lambda count: not clamped(count), 3, 4)


def test_a_gain_that_has_a_name() -> None:
    def named(gain: float) -> bool:
        source = HEAD + "w = torch.empty(8, 8)\nnn.init.normal_(w)\ny = x @ w\n"
        found = after(source, Change("rescale-init", "", [Place(FILE, 6, None, "normal_")], {"gain": gain}))
        return found is not None and "nonlinearity" in found

    flips(lambda times: not named(5 / 3 * times), 1.0098, 1.0102)
