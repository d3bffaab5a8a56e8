"""The limits of depth, each from both sides."""

from __future__ import annotations

import math

import msgspec
import pytest

from gradientflow.depth.causes import flow
from gradientflow.depth.causes.case import Case
from gradientflow.records import Run
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, progressed, run, tail, value


def plain(decades: float, layers: int = 8, weight: float | None = None) -> list[Row]:
    """Layers that share decades evenly; `weight` is what the weights of each pass on (default: what is measured)."""
    gain = 10 ** (decades / (layers - 1))
    *middle, loss = tail()
    last = msgspec.structs.replace(middle[0].value)
    return [
        linear(weight=weight or gain),
        *(linear(gain, weight) for _ in range(layers - 2)),
        linear(gain, weight, value=last),
        loss,
    ]


def found(rows: list[Row], **more: object) -> list[str]:
    return causes(flow.depth, run(Chain(rows), **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("sign", [-1, 1])
def test_decades(sign: int) -> None:
    flips(lambda decades: found(plain(sign * decades)), 1.98, 2.02)


def test_layers_from_which_depth_itself_is_a_reason() -> None:
    flips(lambda layers: found(plain(-4.0, int(layers), weight=1.0)), 14, 15)
    assert found(plain(-4.0, 15, weight=1.0)) == ["depth-without-skip"]


def later(step: int, update: float = 1e-3) -> Run:
    """A healthy first probe and a second one that has lost its gradient."""
    return run(Chain(plain(-0.1)), Chain(plain(-4.0), step=step), updates=update)


def test_first_probes() -> None:
    flips(lambda step: causes(flow.depth, later(int(step))), 4, 3)


def test_weights_that_were_moved_do_not_show_how_they_began() -> None:
    flips(lambda moved: causes(flow.depth, later(3, moved / 2)), 0.31, 0.29)


def test_one_operation_that_takes_nearly_all_is_not_depth() -> None:
    def one(share: float) -> list[str]:
        rows = plain(-4.0 * (1 - share) * 7 / 6)
        rows[3].gain = rows[3].weight = 10 ** (-4.0 * share)
        return found(rows)

    flips(one, 0.77, 0.73)


def test_a_body_that_is_a_recurrence_in_part_is_judged_over_time() -> None:
    def body(operations: float) -> list[str]:
        rows = plain(-4.0, int(operations), weight=10**-0.1)
        for row in rows[1:5]:
            row.tied = "w"
        return found(rows)

    flips(body, 31, 32)  # four calls are an eighth of 32


def test_a_rival() -> None:
    def parts(init: float) -> list[str]:
        rows = [linear(), *(linear(10 ** (-init / 6)) for _ in range(5)), linear(10 ** (-init / 6)), tail()[-1]]
        for at in (6, 4, 2):
            rows.insert(at, Row("sigmoid", "activation", 10 ** (-(4.0 - init) / 3)))
        return found(rows)

    assert parts(0.97) == ["saturating-activation"]
    assert parts(1.03) == ["saturating-activation", "init-too-small"]


def foretold(rows: list[Row]) -> bool:
    findings = flow.depth(Case(run(Chain(rows))))
    return "and not chance" in next(f.summary for f in findings if f.cause == "init-too-small")


def test_theory_that_agrees_speaks_for_the_initialisation() -> None:
    flips(lambda miss: foretold(plain(-4.0, weight=10 ** (-4.0 * (1 - miss) / 7))), 0.26, 0.24)


def test_theory_speaks_for_the_initialisation_where_that_is_most_of_it() -> None:
    def share(init: float) -> bool:
        rows = plain(-4.0 * init, 16)
        for at in range(15, 0, -5):
            rows.insert(at, Row("mul", "elementwise", 10 ** (-4.0 * (1 - init) / 3)))
        return foretold(rows)

    flips(share, 0.49, 0.51)


def test_batch_norms() -> None:
    def normed(count: int) -> str:
        rows = plain(3.0, 5)
        for at in range(count):
            rows.insert(1 + 2 * at, Row("batch_norm", "norm"))
        return only(found(rows))  # type: ignore[arg-type,return-value]

    assert normed(3) == "init-too-large"
    assert normed(4) == "batchnorm-depth"


def grown(forward: float = 3.0, init: float = 3.0, over: float = 20.0) -> list[str]:
    """A gradient that keeps its size, and values, weights and a loss that grew."""
    rows = plain(0.0, weight=10 ** (init / 7))
    rows[-2].value = value(10**forward, (64, 4))
    rows[-1].value.mean = over * math.log(4)
    return found(rows)


def test_values_that_grow_from_layer_to_layer() -> None:
    flips(lambda decades: grown(forward=decades), 1.48, 1.52)


def test_weights_that_explain_the_growth() -> None:
    flips(lambda decades: grown(init=decades), 1.48, 1.52)


def test_a_loss_far_over_that_of_knowing_nothing() -> None:
    flips(lambda over: grown(over=over), 9.8, 10.2)


def test_a_run_that_learns_nearly_all_makes_it_less_sure() -> None:
    def sure(progress: float) -> float:
        return only(flow.depth(Case(run(Chain(plain(-4.0)), losses=progressed(progress))))).confidence

    assert sure(0.78) - sure(0.79) < 0.02
    assert sure(0.79) - sure(0.81) > 0.2
    assert sure(0.81) - sure(0.82) < 0.02
