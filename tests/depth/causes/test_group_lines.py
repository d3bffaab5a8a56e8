"""The line of a parameter group: of its element in the list, of the call that added it, or else of the optimizer."""

from __future__ import annotations

from gradientflow.depth.causes.places import of_group, of_last_call, of_option
from gradientflow.records import Group, Meta, Optimizer

LISTED = "\nmake = SGD(\n    [\n        {'params': a},\n        {'params': b, 'lr': 9.0},\n    ],\n    lr=0.1,\n)\n"
NAMED = "groups = [\n    {'params': a},\n]\ngroups.append({'params': b})\nmake = SGD(groups, lr=0.1)\n"
ADDED = "make = SGD(a, lr=0.1)\nif late:\n    make.add_param_group({'params': b})\n"
BUILT = "make = SGD(groups_of(model), lr=0.1)\n"


def line(source: str, made: int, group: int = 1) -> int | None:
    place = of_group(optimizer(made), meta(source), group)
    return place.line if place is not None else None


def meta(source: str) -> Meta:
    return Meta("train.py", [], "", "", "", "", sources={"train.py": source})


def optimizer(made: int, *rates: float) -> Optimizer:
    groups = [Group({"lr": rate}, [k]) for k, rate in enumerate(rates or (0.1, 0.1))]
    return Optimizer(0, "SGD", {}, [0, 1], "train.py", 9, "train.py", made, groups=groups)


def test_an_element_of_the_list() -> None:
    assert (line(LISTED, 2, 0), line(LISTED, 2, 1)) == (4, 5)


def test_a_list_that_was_put_together_before() -> None:
    assert (line(NAMED, 5, 0), line(NAMED, 5, 1)) == (2, 4)


def test_a_group_that_was_added() -> None:
    assert (line(ADDED, 1, 0), line(ADDED, 1, 1)) == (1, 3)


def test_where_it_cannot_be_told_it_is_where_the_optimizer_was_made() -> None:
    assert line(BUILT, 1) == 1
    assert line(LISTED, 2, 2) == 2  # it has no third
    assert line("make = SGD([*a, *b])\n", 1) == 1


def test_the_group_in_which_an_option_is_largest() -> None:
    def told(*rates: float) -> int | None:
        place = of_option(optimizer(2, *rates), meta(LISTED), "lr")
        return place.line if place is not None else None

    assert (told(0.1, 9.0), told(9.0, 0.1), told(0.1, 0.1)) == (5, 4, 2)


def test_the_last_call() -> None:
    place = of_last_call(meta("loss.backward(retain_graph=True)\nloss.backward()\n"), "backward")
    assert place is not None and place.line == 2
    assert of_last_call(meta("pass\n"), "backward") is None
