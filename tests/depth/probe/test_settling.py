"""A trace that goes on from the window before: what nothing stands on is forgotten, and the rest is counted anew."""

from __future__ import annotations

from gradientflow.depth.probe.traced import Trace, Traced
from gradientflow.records import Cut, Op, Operand, ValueStat

VALUE = ValueStat([4, 2], "float32", 0.0, 1.0, -1.0, 1.0, 0.0, 0, 0)


def trace(*sources: list[int], earlier: int, cuts: tuple[int, ...] = ()) -> Trace:
    """A trace of operations that each consume the results of others; so many of the first are of the window before."""
    ops = [
        Op(i, f"op{i}", "linear", "a.py", i, None, None, None, [Operand(op=k) for k in of], VALUE)
        for i, of in enumerate(sources)
    ]
    made = Trace(ops, [Traced([], [], i) for i in range(len(ops))], {f"node {i}": i for i in range(len(ops))})  # type: ignore[misc]
    made.cuts = [Cut(k, "detach", "a.py", 1) for k in cuts]
    made.earlier = earlier
    return made


def told(made: Trace) -> list[tuple[str, list[int | None]]]:
    assert [op.index for op in made.ops] == list(range(len(made.ops)))
    assert {f"node {op.name[2:]}": op.index for op in made.ops} == made.owner
    assert [t.channel for t in made.traced] == [int(op.name[2:]) for op in made.ops]
    return [(op.name, [o.op for o in op.operands]) for op in made.ops]


def test_what_the_new_window_does_not_stand_on_is_forgotten() -> None:
    made = trace([], [0], [], [2], [3], earlier=3)
    assert made.settle({4})
    assert told(made) == [("op2", []), ("op3", [0]), ("op4", [1])]
    assert made.earlier == 0


def test_what_only_the_backward_call_goes_through_is_kept() -> None:
    made = trace([], [0], [], [2], earlier=4)
    assert made.settle({0, 1})
    assert told(made) == [("op0", []), ("op1", [0])]


def test_where_all_is_needed_nothing_changes_and_a_trace_of_its_own_is_whole() -> None:
    assert not trace([], [0], [1], earlier=2).settle({2})
    made = trace([], [], [], earlier=0)  # of this window all is kept, needed or not
    assert not made.settle({2})
    assert len(made.ops) == 3


def test_cuts_go_on_naming_their_operations() -> None:
    made = trace([], [], [1], [], earlier=2, cuts=(2, -1))
    assert made.settle({3})
    assert [c.op for c in made.cuts] == [1, -1]
    assert made.ops[1].name == "op2"


def test_the_rest_has_no_gradients_and_no_scripts_things_and_there_is_none_of_too_much() -> None:
    made = trace([], [0], earlier=0)
    made.ops[1].operands[0].cut = 3
    made.roots, made.without_grad = {1: (None, None)}, {2}  # type: ignore[dict-item]
    rest = made.rest()
    assert rest is not None and rest.earlier == 2
    assert (rest.roots, rest.last_where, rest.calls, rest.cuts, rest.without_grad) == ({}, None, {}, [], set())
    assert rest.ops[1].operands[0].cut is None
    assert made.ops[1].operands[0].cut == 3
    assert rest.ops[1] is not made.ops[1]
    made.full = True
    assert made.rest() is None
