"""The limits of collapse, each from both sides."""

import pytest

from gradientflow.depth.causes import collapse
from gradientflow.depth.causes.case import Case
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, run, tail, value

STEPS = (1, 2, 3, 40, 50)


def net(decades: float, saturated: float | None = None) -> list[Row]:
    """Five layers that share decades, with a tanh behind the first."""
    gain = 10 ** (decades / 4)
    squash = Row("tanh", "activation", value=value(saturated=saturated))
    middle, loss = tail()
    return [linear(gain), squash, linear(gain), linear(gain), linear(gain), linear(gain, value=middle.value), loss]


def collapsed(
    before: float = 0.0,
    after: float = -6.0,
    *,
    update: float = 0.5,
    saturated: float | None = None,
    steps: tuple[int, ...] = STEPS,
) -> list[str]:
    half = len(steps) // 2
    chains = [Chain(net(before if k < half else after, saturated), step=s) for k, s in enumerate(steps)]
    return causes(collapse.collapsed, run(*chains, updates=update))


def test_probes() -> None:
    flips(lambda n: collapsed(steps=STEPS[: int(n)]), 3, 4)


def test_a_gradient_that_never_came_through_is_no_collapse() -> None:
    flips(lambda before: collapsed(before, -9.0), -2.05, -1.95)


@pytest.mark.parametrize("before", [0.0, -1.0])
def test_decades_lost(before: float) -> None:
    flips(lambda lost: collapsed(before, before - lost), 2.95, 4.05 if before == 0 else 3.05)


def test_what_is_left_at_the_end() -> None:
    flips(lambda after: collapsed(1.5, after), -2.95, -3.05)


def test_it_has_begun_where_half_is_lost() -> None:
    def since(third: float) -> float:
        rows = [net(0.0), net(0.0), net(third), net(-6.0), net(-6.0)]
        chains = [Chain(r, step=s) for r, s in zip(rows, STEPS, strict=True)]
        return float(only(collapse.collapsed(Case(run(*chains, updates=0.5)))).evidence["since_step"])

    assert (since(-1.45), since(-1.55)) == (40, 3)


def test_relative_update() -> None:
    flips(lambda update: collapsed(update=update), 0.19, 0.21)


def test_saturated_first() -> None:
    flips(lambda share: collapsed(update=1e-3, saturated=share), 0.49, 0.51)
    assert collapsed(update=1e-3, saturated=0.6) == ["saturating-activation"]
