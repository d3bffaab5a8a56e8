"""The limits of what is hidden in a network, each from both sides."""

from __future__ import annotations

from gradientflow.depth.causes import hidden
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, progressed, run, tail, value


def softmax(gain: float = 0.05, units: int = 64, behind: Row | None = None, progress: float = 0.0) -> list[str]:
    """A layer, a softmax over so many units, what stands behind it, and a layer."""
    rows = [linear(), Row("softmax", "softmax", gain, value=value(0.02, (64, units)))]
    rows += ([behind] if behind is not None else []) + [linear(), *tail()]
    return causes(hidden.hidden, run(Chain(rows), losses=progressed(progress)))


def test_what_a_normaliser_passes_on() -> None:
    flips(lambda gain: softmax(gain), 0.31, 0.29)


def test_units_that_make_a_normaliser_of_a_gate() -> None:
    flips(lambda units: softmax(units=int(units)), 7, 8)


def test_a_normaliser_in_a_run_that_learns_is_its_own_business() -> None:
    flips(lambda progress: softmax(progress=progress), 0.31, 0.29)


def test_a_softmax_whose_result_is_multiplied_is_a_gate() -> None:
    assert softmax(behind=Row("dropout", "random"))
    assert not softmax(behind=Row("mul", "elementwise"))
    assert not softmax(behind=Row("layer_norm", "norm"))


def oversized(times: float = 5.0, ends: float = 0.8, name: str = "tanh") -> list[str]:
    """Two layers whose weights pass on so many times as much as they should, and activations at their ends."""
    rows = []
    for _ in range(2):
        rows += [linear(1.0, weight=times), Row(name, "activation", value=value(0.9, saturated=ends))]
    last, loss = tail()
    last.weight = times
    return causes(hidden.hidden, run(Chain([*rows, last, loss])))


def test_weights_that_are_times_too_large() -> None:
    flips(lambda times: oversized(times), 2.9, 3.1)


def test_outputs_at_the_end_of_their_range() -> None:
    flips(lambda share: oversized(ends=share), 0.49, 0.51)
