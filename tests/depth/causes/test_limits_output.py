"""The limits of an output that cannot answer, each from both sides."""

from __future__ import annotations

from gradientflow.depth.causes import output
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, progressed, run, tail, value


def found(*head: Row, losses: list[float] | None = None) -> list[str]:
    return causes(output.output_activation, run(Chain([linear(), tail()[0], *head]), losses=losses or [1.0] * 60))


def loss(name: str, **more: object) -> Row:
    return Row(name, "loss", value=value(shape=()), **more)  # type: ignore[arg-type]


def squashed(saturated: float = 0.9, progress: float = 0.0) -> list[str]:
    sigmoid = Row("sigmoid", "activation", value=value(shape=(64, 4), saturated=saturated))
    return found(sigmoid, loss("binary_cross_entropy"), losses=progressed(progress))


def test_outputs_at_the_end_of_their_range() -> None:
    flips(lambda share: squashed(saturated=share), 0.79, 0.81)


def test_a_closed_output_in_a_run_that_learns() -> None:
    flips(lambda progress: squashed(progress=progress), 0.305, 0.295)


def test_a_doubled_output_in_a_run_that_learns_well() -> None:
    softmax = Row("softmax", "softmax", value=value(shape=(64, 4)))
    flips(lambda progress: found(softmax, loss("cross_entropy"), losses=progressed(progress)), 0.61, 0.59)


def test_outputs_that_are_cut_off() -> None:
    def cut(units: float) -> list[str]:
        return found(Row("relu", "activation", value=value(shape=(64, 4), dead=units)), loss("l1_loss"))

    flips(cut, 0.145, 0.155)


def floor(over: float) -> list[str]:
    """Targets around −10 behind a ReLU: the squared error cannot fall below 100."""
    wanted = value(1e-3, (64, 4), min=-11.0, max=-9.0)
    wanted.mean = -10.0
    relu = Row("relu", "activation", value=value(shape=(64, 4)))
    return found(relu, loss("mse_loss", leaf=wanted), losses=[100.0 / over] * 60)


def test_a_floor_under_the_loss() -> None:
    flips(floor, 0.49, 0.51)


def test_a_floor_that_the_loss_is_far_below_is_none() -> None:
    flips(floor, 2.03, 1.97)
