"""The limits of attention, each from both sides."""

from gradientflow.depth.causes import attention
from gradientflow.depth.causes.case import Case
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, progressed, run, tail, value


def net(one_hot: float, scores: float = 9.0) -> list[Row]:
    kernel = Row(
        "scaled_dot_product_attention", "attention", value=value(shape=(8, 16, 32), saturated=one_hot, scores=scores)
    )
    return [linear(), kernel, linear(), *tail()]


def found(one_hot: float, progress: float = 0.0, scores: float = 9.0) -> list[str]:
    return causes(attention.attention, run(Chain(net(one_hot, scores)), losses=progressed(progress)))


def test_one_hot_rows() -> None:
    flips(found, 0.49, 0.51)


def test_one_hot_rows_in_a_run_that_learns() -> None:
    flips(lambda share: found(share, 0.9), 0.89, 0.91)


def test_the_run_that_learns() -> None:
    flips(lambda progress: found(0.7, progress), 0.62, 0.58)


def test_scores_below_the_freezing_point_are_no_fault() -> None:
    frozen = (2 * 2.772588722) ** 0.5  # √(2 ln 16)
    flips(lambda scores: found(0.95, 0.0, scores), 0.99 * frozen, 1.01 * frozen)


def test_the_limit_that_decided_is_told() -> None:
    told = [only(attention.attention(Case(run(Chain(net(0.95)), losses=progressed(p))))).evidence for p in (0.0, 0.9)]
    assert [e["threshold_one_hot_rows"] for e in told] == [0.5, 0.9]
