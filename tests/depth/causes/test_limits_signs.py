"""The limits of a wrong sign, each from both sides."""

from __future__ import annotations

from gradientflow.depth.causes import signs
from gradientflow.records import Group
from tests.depth.causes.by_hand import Chain, causes, flips, linear, progressed, run, tail

RISING = [1.0, 1.1, 3.0, 9.0, 27.0, 81.0]


def climbing(losses: list[float] = RISING, cosine: float = -0.5, looked_at: int = 99) -> list[str]:
    seen = run(losses=losses, along=cosine)
    for step in seen.steps[looked_at:]:
        step.along = None
    return causes(signs.wrong_sign, seen)


def test_a_run_that_has_begun() -> None:
    flips(lambda length: climbing(RISING[: int(length)]), 4, 5)


def test_updates_that_were_looked_at() -> None:
    flips(lambda steps: climbing(looked_at=int(steps)), 2, 3)


def test_updates_that_climb() -> None:
    flips(lambda cosine: climbing(cosine=cosine), -0.098, -0.102)


def test_a_rise_over_the_usual_change() -> None:
    flips(lambda rise: climbing([10.0, 11.0] * 25 + [10.0 + rise] * 10), 2.95, 3.05)


def bottomless(length: int = 60, times: float = 200.0) -> list[str]:
    return causes(
        signs.wrong_sign, run(losses=[1.0 - (times + 1.0) * (k / (length - 1)) ** 6 for k in range(length)], along=0.5)
    )


def test_losses_whose_quarters_show_a_course() -> None:
    flips(lambda length: bottomless(length=int(length)), 9, 10)


def test_a_loss_far_below_zero() -> None:
    flips(lambda times: bottomless(times=times), 49, 51)


def one_up(progress: float = 0.0, layers: bool = True, both: bool = False) -> list[str]:
    """A run of two groups of which the first is made with maximize=True; it holds a layer, or what is none."""
    seen = run(Chain([linear(), *tail()]), losses=progressed(progress))
    held = [0] if layers else [7]
    seen.meta.optimizers[0].groups = [Group({"maximize": True}, held), Group({"maximize": both}, [1])]
    return causes(signs.wrong_sign, seen)


def test_layers_of_one_group_that_climb_what_the_others_descend() -> None:
    flips(lambda progress: one_up(progress), 0.13, 0.11)
    assert one_up() == ["wrong-sign"]
    assert one_up(layers=False) == []  # weights of the loss's terms may climb
    assert one_up(both=True) == []  # (the whole of an optimizer is judged by its steps)
