"""The limits of data, targets and penalties, each from both sides."""

from __future__ import annotations

import pytest

from gradientflow.depth.causes import data
from gradientflow.depth.causes.case import Case
from tests.depth.causes.by_hand import Chain, Row, causes, flips, linear, only, progressed, run, tail, value


def chain(**more: object) -> Chain:
    return Chain([linear(), *tail()], **more)  # type: ignore[arg-type]


# ── inputs and targets ───────────────────────────────────────────────────────────────────────────────────────────────


def test_large_inputs() -> None:
    flips(lambda rms: causes(data.unscaled, run(chain(data=value(rms)))), 19.8, 20.2)


@pytest.mark.parametrize(("times", "symptom"), [(1.97, "crawling"), (2.03, "oscillating")])
def test_large_inputs_and_a_loss_that_rises(times: float, symptom: str) -> None:
    losses = [1.0] * 5 + [1.0 + times] + [1.0] * 54
    assert only(data.unscaled(Case(run(chain(data=value(50.0)), losses=losses)))).symptom == symptom


def test_inputs_that_alone_make_the_step_too_large() -> None:
    def sure(sharpness: float) -> bool:
        """At a rate of 0.1 a sharpness of 20 is stable, with inputs of a size of 50 one of 20 · 50²."""
        chains = [chain(data=value(50.0), sharpness=sharpness)]
        return only(data.unscaled(Case(run(*chains, losses=[1.0, 9.0] * 30)))).confidence > 0.8

    flips(sure, 19.9, 20.1)
    flips(lambda s: not sure(s), 20 * 50**2 * 0.99, 20 * 50**2 * 1.01)


def test_a_loss_that_rises_is_trouble_enough() -> None:
    def seen(times: float) -> list[str]:
        losses = progressed(0.5)
        losses[8] = 1.0 + times
        return causes(data.unscaled, run(chain(data=value(50.0)), losses=losses))

    flips(seen, 1.97, 2.03)


def test_large_targets() -> None:
    def asked(size: float) -> list[str]:
        rows = [linear(), tail()[0], Row("mse_loss", "loss", value=value(shape=()), leaf=value(size, (64, 4)))]
        return causes(data.unscaled_target, run(Chain(rows)))

    flips(asked, 29.5, 30.5)


# ── one bad batch ────────────────────────────────────────────────────────────────────────────────────────────────────


def batch(
    at: int = 30,
    grad: float = 1000.0,
    rise: float = 50.0,
    first: float = 1.0,
    before: float = 1.0,
    moved: float = 1.0,
    usual: float = 1e-3,
):
    """One step with another gradient and loss; the very first gradient, the one before it, and the last update before."""
    losses, grads, updates = [1.0] * 60, [1.0] * 60, [usual] * 60
    losses[at], grads[at] = 1.0 + rise, grad
    grads[0] *= first
    grads[at - 2] *= before
    updates[at - 1] *= moved
    return causes(data.bad_batch, run(chain(), losses=losses, grads=grads, updates=updates))


def test_steps_that_show_what_is_usual() -> None:
    flips(lambda at: batch(at=int(at)), 4, 5)


def test_gradients_were_calm() -> None:
    flips(lambda times: batch(before=times), 10.2, 9.8)


def test_the_weights_had_not_moved() -> None:
    flips(lambda times: batch(moved=times), 10.2, 9.8)


def test_the_step_before_had_not_replaced_the_weights() -> None:
    flips(lambda size: batch(usual=size), 0.31, 0.29)


def test_beyond_every_gradient_so_far() -> None:
    flips(lambda times: batch(first=1000.0 / times), 2.95, 3.05)


def test_times_the_usual_gradient() -> None:
    flips(lambda times: batch(grad=times), 98, 102)


def test_times_the_usual_loss() -> None:
    flips(lambda times: batch(rise=times), 19.5, 20.5)


# ── penalties ────────────────────────────────────────────────────────────────────────────────────────────────────────


def shrunk(left: float = 0.2, decay: float = 0.8, length: int = 60) -> list[str]:
    weights = [1.0] * (length // 2) + [left] * (length - length // 2)
    seen = run(chain(), losses=[1.0] * length, weights=weights, options={"weight_decay": decay})
    return causes(data.over_regularised, seen)


def test_weights_that_are_left() -> None:
    flips(lambda left: shrunk(left=left), 0.41, 0.39)


def test_the_pull_of_the_penalty() -> None:
    flips(lambda decay: shrunk(decay=decay), 0.295, 0.305)


def test_steps_that_show_where_the_weights_go() -> None:
    flips(lambda length: shrunk(length=int(length)), 19, 20)


def test_the_share_that_decay_takes_at_each_step() -> None:
    def told(decay: float, progress: float = 0.0, optimizer: str = "SGD") -> list[str]:
        seen = run(chain(), losses=progressed(progress), lr=0.1, optimizer=optimizer, options={"weight_decay": decay})
        return [
            f.evidence["decay_per_step"] for f in data.over_regularised(Case(seen)) if "decay_per_step" in f.evidence
        ]

    flips(told, 0.99, 1.01)
    flips(lambda progress: told(5.0, progress), 0.31, 0.29)
    assert not told(5.0, optimizer="Adam")  # which rescales it


def test_weights_held_down_by_decoupled_decay_in_a_run_that_learns() -> None:
    def held(progress: float) -> list[str]:
        seen = run(
            chain(), losses=progressed(progress), weights=10.0, optimizer="AdamW", options={"weight_decay": 10.0}
        )
        return causes(data.over_regularised, seen)

    flips(held, 0.305, 0.295)
