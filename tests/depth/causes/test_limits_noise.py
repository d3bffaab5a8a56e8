"""The limits of noise, each from both sides."""

import math

from gradientflow.depth.causes import noise
from gradientflow.records import Run
from tests.depth.causes.by_hand import Chain, causes, flips, run, tail


def jumping(length: int = 120, swing: float = 1.0, drop: float = 0.0) -> list[float]:
    """Losses around 1 that jump by `swing` of it from step to step; the last quarter lies `drop` lower."""
    return [1.0 + swing * (0.5 if k % 2 else -0.5) - drop * (k >= 3 * length // 4) for k in range(length)]


def noisy(
    *, batch: int = 4, losses: list[float] | None = None, update: float = 0.2, weights: object = 1.0
) -> list[str]:
    seen: Run = run(Chain(tail(), batch=batch), losses=losses or jumping(), updates=update, weights=weights)  # type: ignore[arg-type]
    return causes(noise.noisy, seen)


def test_batch() -> None:
    flips(lambda batch: noisy(batch=int(batch)), 17, 16)


def test_losses() -> None:
    flips(lambda length: noisy(losses=jumping(int(length))), 99, 100)


def test_progress() -> None:
    def learning(progress: float) -> list[str]:
        end = (1 - progress) / (1 + progress)
        jump = [(1.0 if k < 75 else end) * (1.5 if k % 2 else 0.5) for k in range(155)]
        return noisy(losses=[1.0] * 5 + jump, update=1.0)

    flips(learning, 0.31, 0.29)


def test_a_loss_that_still_falls_by_three_standard_errors() -> None:
    error = math.sqrt(2 * 0.25 / 30)  # of the difference of two means of thirty losses that lie ±½ around theirs
    flips(lambda errors: noisy(losses=jumping(120, 1.0, errors * error)), 3.2, 2.8)


def test_swing() -> None:
    expected = 0.7 * math.sqrt(2.0 / 4)
    flips(lambda swing: noisy(losses=jumping(120, swing)), 0.97 * expected, 1.03 * expected)


def test_swing_of_one_sample_is_held_against_the_level() -> None:
    flips(lambda swing: noisy(batch=1, losses=jumping(120, swing)), 0.97 * 0.7, 1.03 * 0.7)


def test_two_samples_need_no_walk() -> None:
    flips(lambda batch: noisy(batch=int(batch), update=1e-3), 3, 2)


def test_travelled() -> None:
    flips(lambda way: noisy(update=way / 60), 4.9, 5.1)


def test_weights_that_get_somewhere() -> None:
    flips(lambda moved: noisy(weights=[1.0] * 90 + [1.0 + moved] * 30, update=0.3), 1.05, 0.95)
