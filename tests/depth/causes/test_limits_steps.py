"""The limits of the step, each from both sides."""

from __future__ import annotations

import math

import pytest

from gradientflow.depth.causes import steps
from gradientflow.depth.causes.case import Case
from gradientflow.records import Run
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, progressed, run, tail, value, zigzag


def probe(**more: object) -> Chain:
    return Chain([linear(), *tail()], **more)  # type: ignore[arg-type]


def found(losses: list[float], *chains: Chain, **more: object) -> list[str]:
    return causes(steps.step_size, run(*(chains or (probe(),)), losses=losses, **more))  # type: ignore[arg-type]


def spike(times: float, length: int = 40) -> list[float]:
    """A loss of 1 that rises once, by as many times its start."""
    return [1.0] * 10 + [1.0 + times] + [1.0] * (length - 11)


# ── a rise ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rise_that_stays() -> None:
    flips(lambda times: found([1.0] * 30 + [1.0 + times] * 30), 1.97, 2.03)


def test_a_rise_before_the_numbers_end() -> None:
    flips(lambda times: found([*spike(times), math.nan]), 9.8, 10.2)


def test_a_rise_so_high_that_what_comes_after_does_not_matter() -> None:
    flips(lambda times: found(spike(times)), 98, 102)


def test_a_rise_in_a_run_that_learns_well() -> None:
    def peak(progress: float) -> list[str]:
        losses = progressed(progress)
        losses[20] = 5.0
        return found(losses, updates=0.3)

    flips(peak, 0.61, 0.59)


def test_an_update_beside_a_rise() -> None:
    flips(lambda update: found(spike(4.0), updates=update), 0.196, 0.204)


def test_a_step_over_its_stable_limit_beside_a_rise() -> None:
    flips(lambda sharpness: found(spike(4.0), probe(sharpness=sharpness), lr=0.1), 19.8, 20.2)


def test_optimizers_that_play_against_each_other() -> None:
    flips(lambda times: found([1.0] * 30 + [1.0 + times] * 30, optimizers=2), 39, 41)


def test_batches_so_small_that_the_loss_jumps_by_itself() -> None:
    flips(lambda batch: found(spike(150.0), probe(batch=int(batch))), 4, 5)


def test_a_loss_that_rattles_about_a_level_does_not_run_away() -> None:
    def symptom(last: float) -> str:
        seen = run(probe(batch=2), losses=[1.0] * 30 + [4.0] * 60 + [4.0 * last] * 30)
        return only(steps.step_size(Case(seen))).symptom

    assert symptom(1.47) == "oscillating"
    assert symptom(1.53) == "diverging"


def test_a_loss_around_zero_is_held_against_its_usual_swing() -> None:
    def swings(times: float) -> list[str]:
        losses = [0.5, -0.5] * 30
        losses[20] = 0.5 + 4.0 * times  # (a usual change is 1)
        return found(losses)

    flips(swings, 98, 102)


@pytest.mark.parametrize(
    ("what", "without", "beyond"), [("update", 0.49, 0.51), ("rise", 0.29, 0.31), ("end", 0.89, 0.91)]
)
def test_an_update_that_replaces_half_of_the_weights(what: str, without: float, beyond: float) -> None:
    def thrown(number: float) -> list[str]:
        given = {"update": 0.6, "rise": 0.4, "end": 0.95} | {what: number}
        return found([1.0] * 5 + [1.0 + given["rise"]] * 5 + [given["end"]] * 50, updates=given["update"])

    flips(thrown, without, beyond)


def relapse(end: float = 0.83, peak: float = 0.95) -> list[str]:
    return found([1.0] * 20 + [0.35] * 20 + [peak] + [end] * 19)


def test_progress_that_is_lost_again() -> None:
    flips(lambda lost: relapse(end=0.35 + 0.65 * lost), 0.69, 0.71)


def test_a_relapse_over_the_best() -> None:
    flips(lambda times: relapse(peak=0.35 + 0.35 * times), 1.47, 1.53)


def test_up_and_down_without_headway() -> None:
    flips(lambda turns: found(zigzag(turns, 200), probe(sharpness=30.0), lr=0.1), 0.735, 0.765)


def test_losses_that_turn() -> None:
    flips(lambda length: found(zigzag(1.0, int(length)), probe(sharpness=30.0), lr=0.1), 9, 10)


# ── a loss that had fallen ───────────────────────────────────────────────────────────────────────────────────────────


def late(
    best: float = 0.1,
    level: float = 0.6,
    turns: float = 1.0,
    length: int = 400,
    batch: int = 64,
    sharpness: float = 30.0,
) -> bool:
    """Whether a run that fell to `best` and then swings about `level` is told."""
    quarter = length // 4
    losses = [1.0] * 5 + [best] * (length - quarter - 5) + zigzag(turns, quarter, level, 1e-4)
    seen = Case(run(probe(step=length - 5, sharpness=sharpness, batch=batch), losses=losses, lr=0.1))
    return steps._late(seen, seen.main) is not None


def test_a_long_run() -> None:
    flips(lambda length: late(length=int(length)), 39, 40)


def test_small_batches_swing_by_themselves() -> None:
    flips(lambda batch: late(batch=int(batch)), 4, 5)


def test_a_share_of_the_progress_is_lost() -> None:
    flips(lambda lost: late(best=0.01, level=0.01 + 0.99 * lost), 0.098, 0.102)


def test_the_last_quarter_over_the_best() -> None:
    flips(lambda times: late(level=0.1 * times), 3.9, 4.1)


def test_a_loss_that_had_fallen() -> None:
    flips(lambda best: late(best=best, level=5.0), 0.71, 0.69)


def test_swings_that_turn() -> None:
    flips(lambda turns: late(turns=turns), 0.585, 0.615)


def test_a_level_so_high_that_it_need_not_turn() -> None:
    flips(lambda times: late(best=0.02, level=0.02 * times, turns=0.0), 24.5, 25.5)


def raised(rates: list[float]) -> bool:
    seen: Run = run(probe(), losses=[1.0] * 5 + [0.1] * 55, lr=rates)
    seen.meta.sources["train.py"] = "schedule = StepLR(optimizer, 10)\n"
    return steps._raised(Case(seen), Case(seen).main) is not None


def test_a_rate_that_is_raised() -> None:
    flips(lambda times: raised([0.1] * 30 + [0.1 * times] * 30), 2.95, 3.05)


def test_a_rate_that_is_raised_within_the_first_steps_warms_up() -> None:
    flips(lambda step: raised([0.1] * int(step) + [1.0] * (60 - int(step))), 6, 7)


# ── a step that is too small ─────────────────────────────────────────────────────────────────────────────────────────


def small(length: int = 60, travelled: float = 0.01, **more: object) -> list[str]:
    return found([1.0] * length, updates=travelled / length, **more)


def test_a_way_that_hardly_moves_the_weights() -> None:
    flips(lambda travelled: small(travelled=travelled), 0.0204, 0.0196)


def test_steps_that_need_not_move_the_loss() -> None:
    flips(lambda length: small(length=int(length)), 19, 20)


def test_steps_whose_way_was_measured() -> None:
    flips(lambda length: found([1.0] * 60, updates=[1e-5] * int(length) + [None]), 19, 20)


def test_a_gradient_that_is_alive() -> None:
    flips(lambda left: small(grads=[1.0] * 30 + [left] * 30), 0.049, 0.051)


def faded(rate: float = 1e-4, tail: float = 1e-4) -> list[str]:
    """A schedule that ends after half of the run, and how far the weights go behind that."""
    return found([1.0] * 60, lr=[0.1] * 30 + [0.1 * rate] * 30, updates=[0.1] * 30 + [tail / 30] * 30)


def test_a_schedule_that_ended() -> None:
    flips(lambda rate: faded(rate=rate), 0.00102, 0.00098)


def test_a_second_half_without_movement() -> None:
    flips(lambda tail: faded(tail=tail), 0.00102, 0.00098)


# ── where the loss ends ──────────────────────────────────────────────────────────────────────────────────────────────


def shot(end: float, update: float = 0.001, peak: float = 150.0) -> list[str]:
    """The symptom of a loss that begins at 1, shoots up once and then stays at one level."""
    seen = run(probe(), losses=[1.0] * 10 + [peak] + [end] * 60, updates=update)
    return [f.symptom for f in steps.step_size(Case(seen))]


def test_a_loss_that_diverges_ends_above_its_start() -> None:
    assert shot(1.05) == ["diverging"]
    assert shot(0.95) == ["oscillating"]


def test_a_spike_that_a_run_that_learns_well_got_over_is_no_fault() -> None:
    flips(lambda end: shot(end), 0.24, 0.26)  # progress 0.6 on either side
    flips(lambda update: shot(0.1, update), 0.49, 0.51)  # unless a step threw half of the weights away


def test_a_loss_that_is_held_against_what_the_network_made_may_rise() -> None:
    def rises(own: bool, update: float = 0.001) -> list[str]:
        chain = Chain(
            [
                linear(),
                linear(value=value(shape=(64, 4))),
                Row("mse_loss", "loss", value=value(shape=()), leaf=value(shape=(64, 4))),
            ]
        )
        seen = run(chain, losses=[1.0] * 30 + [9.0] * 30, updates=update)
        seen.probes[0].ops[-1].operands[-1].own = own
        return [f.symptom for f in steps.step_size(Case(seen))]

    assert rises(own=False) == ["diverging"]
    flips(lambda update: rises(True, update), 0.19, 0.21)


# ── a momentum that swings ───────────────────────────────────────────────────────────────────────────────────────────


def swung(times: int = 4, low: float = 0.2, high: float = 0.8, momentum: float = 0.999, after: int = 10) -> list[str]:
    """The symptoms of a loss that goes down and up again so often; at the end it stands at one level."""
    losses = [1.0] * 6 + ([low] * 3 + [high] * 3) * times + [0.5] * after
    return [f.symptom for f in steps.step_size(Case(run(probe(), losses=losses, options={"momentum": momentum})))]


def test_a_loss_that_swings_under_a_heavy_momentum() -> None:
    flips(lambda momentum: swung(momentum=momentum), 0.98, 0.981)
    flips(lambda low: swung(low=low), 0.41, 0.39)
    flips(lambda high: swung(high=high), 0.69, 0.71)
    flips(lambda times: swung(times=int(times)), 2, 3)
    flips(lambda after: swung(after=int(after)), 26, 22)  # the last swing is the 28th of 52 losses: it has settled
    assert swung() == ["oscillating"]


def test_the_momentum_of_adam_is_its_first_beta() -> None:
    losses = [1.0] * 6 + ([0.2] * 3 + [0.8] * 3) * 4 + [0.5] * 10
    seen = run(probe(), losses=losses, optimizer="Adam", options={"betas": [0.999, 0.9]})
    assert "a momentum of 0.999" in only(steps.step_size(Case(seen))).summary
