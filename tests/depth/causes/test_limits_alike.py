"""The limits of answers that are all alike, each from both sides."""

from __future__ import annotations

from gradientflow.depth.causes import alike
from gradientflow.depth.probe.stats import rows_apart
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, run, value


def ended(last: float = 1e-4, before: float = 1e-4, size: float = 1.0, first: float = 1.0) -> list[str]:
    """Embeddings that differ by so much at the first probe and at the last two."""

    def chain(step: int, spread: float, rms: float) -> Chain:
        answer = linear(value=value(rms, (64, 4), spread=spread))
        return Chain([linear(), answer, Row("mean", "reduce", value=value(shape=()))], step=step)

    return causes(alike.all_alike, run(chain(1, first, 1.0), chain(20, before, size), chain(40, last, size)))


def test_samples_that_differ_by_next_to_nothing() -> None:
    flips(lambda spread: ended(last=spread, size=0.1), 0.0031, 0.0029)  # of their size
    flips(lambda spread: ended(before=spread, size=0.1), 0.0031, 0.0029)


def test_samples_that_differ_by_a_hundredth_of_what_they_did() -> None:
    flips(lambda spread: ended(last=spread), 0.0101, 0.0099)


def test_samples_that_never_differed_did_not_collapse() -> None:
    flips(lambda first: ended(first=first), 0.029, 0.031)


def test_a_squared_error_may_end_with_equal_answers() -> None:
    """Its targets may be equal: other rules judge it."""

    def chain(step: int, spread: float) -> Chain:
        answer = linear(value=value(1.0, (64, 4), spread=spread))
        return Chain(
            [linear(), answer, Row("mse_loss", "loss", value=value(shape=()), leaf=value(shape=(64, 4)))], step=step
        )

    assert causes(alike.all_alike, run(chain(1, 1.0), chain(20, 1e-4), chain(40, 1e-4))) == []


def test_another_optimizer_that_comes_later_hides_nothing() -> None:
    """Embeddings that have collapsed, and a probe that is trained on them afterwards."""

    def chain(step: int, spread: float) -> Chain:
        answer = linear(value=value(1.0, (64, 4), spread=spread))
        return Chain([linear(), answer, Row("mean", "reduce", value=value(shape=()))], step=step)

    seen = run(chain(1, 1.0), chain(20, 1e-4), chain(40, 1e-4), chain(50, 1.0), chain(60, 1.0))
    assert causes(alike.all_alike, seen) == []  # the control: it is its own
    for probe in seen.probes:
        probe.optimizer = 0 if probe.step <= 40 else 1
    assert causes(alike.all_alike, seen) == ["collapse"]


def test_how_far_rows_are_apart() -> None:
    import torch

    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    expected = x.std(0, correction=0).square().mean().sqrt().item()
    assert rows_apart(x + 7.0) is not None
    assert abs((rows_apart(x + 7.0) or 0.0) - expected) < 1e-5
    assert rows_apart(x[:7]) is None  # too few
    assert rows_apart(x[:8]) is not None
    assert rows_apart(x[0]) is None
