"""A bar of exactly zero, or of nothing, is empty; the smallest that is not zero is seen. In the terminal and on the page."""

from __future__ import annotations

import math

import pytest

from gradientflow.records import Share
from gradientflow.report import bars, rows
from gradientflow.report.view.details import details


def way(norms: list[float], side: int) -> list[Share]:
    """Rows of a way back, the loss first, by the gradient that arrives at each; `side` of them on the loss's side."""
    made = []
    for k, norm in enumerate(norms):
        gain = norms[k + 1] / norm if k + 1 < len(norms) and norm else None
        decades = None if not gain else math.log10(gain)
        left = None if not norm or not norms[side] else math.log10(norm / norms[side])
        made.append(Share(f"op{k}", "linear", decades, gain, left, norm, "a.py", k, body=k >= side))
    return made


def drawn(found: list[Share], plain: bool) -> list[str]:
    axis = rows.scale(found)
    told = [bars.bar(r, s, axis, 30, plain=plain).plain for r, s in zip(found, rows.spans(found), strict=True)]
    return [line.replace("·", " ").strip() for line in told]


@pytest.mark.parametrize("plain", [True, False])
def test_what_lies_behind_an_exact_zero_is_empty(plain: bool) -> None:
    found = way([1.0, 0.5, 0.25, 0.0, 0.0], side=1)
    full = drawn(found, plain)
    assert [bool(line) for line in full] == [True, True, True, False, False]
    alive = way([1.0, 0.5, 0.25, 1e-30, 1e-31], side=1)  # control: next to nothing is not nothing
    assert all(drawn(alive, plain))


@pytest.mark.parametrize("plain", [True, False])
def test_where_nothing_arrives_at_the_output_the_loss_is_what_bars_are_shares_of(plain: bool) -> None:
    found = way([1.0, 0.1, 0.2, 0.0, 0.0], side=3)
    assert rows.from_the_loss(found)
    assert rows.spans(found)[0].before == 0.0
    assert [bool(line) for line in drawn(found, plain)] == [True, True, True, False, False]
    assert "left of the loss" in str(details(found[0], rows.spans(found)[0], None, "loss"))
    alive = way([1.0, 0.1, 0.2, 1e-3, 1e-4], side=3)  # control
    assert not rows.from_the_loss(alive)
    assert rows.spans(alive)[3].before == 0.0
    assert all(drawn(alive, plain))


@pytest.mark.parametrize("plain", [True, False])
def test_the_smallest_piece_is_seen(plain: bool) -> None:
    axis = rows.Scale(-3.0, 0.0)
    row = Share("a", "linear", None, 0.0)
    for before in (-2.9999, -2.98, -2.9):
        assert bars.bar(row, rows.Span(before, None), axis, 12, plain=plain).plain.replace("·", " ").strip()
        assert bars.bar(row, rows.Span(before, before), axis, 12, plain=plain).plain.replace("·", " ").strip()
    assert not bars.bar(row, rows.Span(None, None), axis, 12, plain=plain).plain.replace("·", " ").strip()


def test_a_part_of_a_budget_that_is_told_as_nothing_has_no_cell_and_any_other_has_one() -> None:
    shares = [Share(n, n, d, None) for n, d in (("big", -9.0), ("small", -0.01), ("none", -1e-17), ("zero", 0.0))]
    for plain in (True, False):
        strip, *words = bars.strip(shares, 40, plain=plain)
        assert "none" not in str(words)
        assert "zero" not in str(words)
        assert "small −0.01" in words[0].plain
        assert len(strip.plain) == 40
    assert bars.strip(shares, 40, plain=True)[0].plain.count("├") == 2
    few = bars.strip([Share(f"p{k}", "x", -1.0 if k else -50.0, None) for k in range(9)], 10, plain=True)
    assert len(few[0].plain) == 10
    assert bars.strip(shares[2:], 40, plain=True) == []


def test_a_curve_at_zero_is_empty_and_next_to_it_is_not() -> None:
    assert bars.sparkline([0.0, 0.0, 0.0], 3) == "   "
    assert bars.sparkline([1.0, 1.0, 1.0], 3) == "▄▄▄"
    assert bars.sparkline([2.0, 1e-300, 0.0], 3) == "█▁ "
    assert bars.sparkline([2.0, 0.0, -2.0], 3) == "█▅▁"  # a curve that goes lower does not stop at zero
